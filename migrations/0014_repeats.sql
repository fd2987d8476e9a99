-- A request whose client repeats it by itself, with no key that says so, is known by its mark, which is kept as the hash of a key
-- that nobody sent. The latest job of a mark is found along this index.
create index idempotency_keys_by_hash on idempotency_keys (account_id, body_hash, created_at desc);
