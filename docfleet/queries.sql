-- find_api_key --
-- Whose key has this SHA-256; no row for a key that never was or is revoked.
select key_id, name
from api_keys
where key_hash = %(key_hash)s and revoked_at is null

-- create_api_key --
-- A new key, or nothing when it is there already (the local stack's own key at its second start).
insert into api_keys (key_id, name, key_hash, prefix, quota_limit, rate_per_minute)
values (%(key_id)s, %(name)s, %(key_hash)s, %(prefix)s, %(quota_limit)s, %(rate_per_minute)s)
on conflict (key_hash) do nothing

-- list_api_keys --
-- All keys, the newest last.
select key_id, name, prefix, quota_limit, quota_used, rate_per_minute, created_at, revoked_at
from api_keys
order by created_at, key_id

-- find_keys_to_revoke --
-- The valid keys whose id is this text or whose shown prefix is.
select key_id
from api_keys
where revoked_at is null and (key_id::text = lower(%(text)s) or prefix = %(text)s)

-- revoke_api_key --
-- From now on the key is unknown to every service.
update api_keys set revoked_at = now() where key_id = %(key_id)s

-- job_states --
-- How far jobs are, for whoever wants to replay their messages.
select job_id, status, attempt
from jobs
where job_id = any(%(job_ids)s)

-- projector_offsets --
-- How far the projector has read a topic.
select partition, next_offset
from consumer_offsets
where consumer_group = %(consumer_group)s and topic = %(topic)s
