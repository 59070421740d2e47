-- find_api_key --
-- Whose key has this SHA-256; no row for a key that never was or is revoked.
select key_id, name
from api_keys
where key_hash = %(key_hash)s and revoked_at is null
