-- A dialog, and the newest of its messages that together fit into $4 bytes, the oldest of them first. Only those are read
-- whole; of the others it looks at their lengths.
select d.id as "id: DialogId", d.user_id as "user: UserId", d.key_id as "key: KeyId", d.title, d.model, d.system,
       d.uses_history, d.keeps_history, d.message_count, d.created_at, d.updated_at,
       case when d.uses_history and d.keeps_history then (
           select jsonb_agg(jsonb_build_object('role', m.role, 'content', m.content) || coalesce(m.more, '{}') order by m.n)
           from (
               select l.*, sum(l.size_bytes) over (order by l.n desc) as so_far
               from (
                   select n, role, content, more, size_bytes from dialog_messages where dialog_id = d.id
                   order by n desc limit $5
               ) l
           ) m
           where m.so_far <= $4::bigint
       ) end as "history"
from dialogs d
where d.id = $1 and d.account_id = $2 and d.user_id is not distinct from $3
