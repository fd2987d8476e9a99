-- What an account wishes for where its jobs are made, as far as their requests do not say: {"default": routing, "models":
-- {model: routing}}, each routing as a request has it. Null where it wishes nothing. Written by the account's own people, read
-- with their keys and logins.
alter table accounts add column routing jsonb;
