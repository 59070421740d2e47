-- The statements of producer_api, each found by the name above it.

-- terms --
-- What a live key allows.
select quota_used, quota_limit, rate_per_minute
from api_keys
where key_id = %(key_id)s and revoked_at is null

-- take_rate --
-- GCRA: one request's interval is added to the theoretical arrival time, unless that then lies more than a minute ahead.
update api_keys
set rate_next_at = greatest(rate_next_at, now()) + interval '1 minute' / rate_per_minute
where key_id = %(key_id)s
  and (rate_per_minute is null
       or greatest(rate_next_at, now()) + interval '1 minute' / rate_per_minute <= now() + interval '1 minute')
returning key_id

-- rate_wait --
-- Seconds until take_rate would let the key's next request pass.
select greatest(0, extract(epoch from
         rate_next_at + interval '1 minute' / rate_per_minute - interval '1 minute' - now()))::float8
from api_keys
where key_id = %(key_id)s and rate_per_minute is not null

-- lock_idempotency_key --
-- Take the key when it is new or when the request that held it has died; no row when it is held or answered.
insert into idempotency_keys as held (key_id, idempotency_key, locked_until, lock_token)
values (%(key_id)s, %(idempotency_key)s, now() + %(lease)s, %(lock_token)s)
on conflict (key_id, idempotency_key) do update
set locked_until = excluded.locked_until, lock_token = excluded.lock_token
where held.response is null and held.locked_until < now()
returning lock_token

-- answered_idempotency_key --
-- What the first request with the key was and was answered; nulls while it runs.
select fingerprint, response
from idempotency_keys
where key_id = %(key_id)s and idempotency_key = %(idempotency_key)s

-- renew_idempotency_key --
-- The request that holds the lock still lives.
update idempotency_keys
set locked_until = now() + %(lease)s
where key_id = %(key_id)s and idempotency_key = %(idempotency_key)s and lock_token = %(lock_token)s

-- release_idempotency_key --
-- A refused post burns no key.
delete from idempotency_keys
where key_id = %(key_id)s and idempotency_key = %(idempotency_key)s and lock_token = %(lock_token)s
  and response is null

-- forget_idempotency_keys --
-- Answers older than the time for which they are kept, and locks of requests that died long ago.
delete from idempotency_keys
where (key_id, idempotency_key) in (
    select key_id, idempotency_key
    from idempotency_keys
    where created_at < now() - %(keep)s and (locked_until is null or locked_until < now())
    limit 1000
    for update skip locked)

-- admit --
-- Key, quota, idempotency and job in one transaction; no row when the quota is used up or the lock or key is lost.
-- The job is held back, for the relay, while its tenant has enough in Kafka or others of its tenant are held back.
with room as (
    select %(tenant_jobs_max)s = 0 or (
        (select created_at  -- the oldest: its index is in that order, which keeps plans for the many off this one
         from jobs
         where tenant_id = %(tenant_id)s and published_at is null and publish_claimed_until is null
           and status = 'queued' and (file_url is null or fetched_at is not null)
         order by created_at
         limit 1) is null
        and %(tenant_jobs_max)s > (
            select count(*)
            from (
                select from jobs
                where tenant_id = %(tenant_id)s
                  and (status = 'processing'
                       or (status = 'queued' and (published_at is not null or publish_claimed_until is not null)))
                limit %(tenant_jobs_max)s) as in_kafka)) as is_left
), lock as (
    select 1
    from idempotency_keys
    where key_id = %(key_id)s and idempotency_key = %(idempotency_key)s and lock_token = %(lock_token)s
    for update
), quota as (
    update api_keys
    set quota_used = quota_used + 1
    where key_id = %(key_id)s and revoked_at is null and quota_used < quota_limit
      and (%(idempotency_key)s::text is null or exists (select from lock))
    returning quota_limit - quota_used as remaining
), job as (
    insert into jobs (job_id, tenant_id, key_id, status, progress, created_at, last_seen_at, object_name, media_type,
                      size_bytes, categories, none_of_these, evidence, traceparent, file_url, publish_claimed_until)
    select %(job_id)s, %(tenant_id)s, %(key_id)s, 'queued', %(progress)s, now(), now(), %(object_name)s,
           %(media_type)s, %(size_bytes)s, %(categories)s, %(none_of_these)s, %(evidence)s, %(traceparent)s,
           %(file_url)s,
           case when %(file_url)s::text is null and room.is_left then now() + %(publish_lease)s end
    from quota, room
), answered as (
    update idempotency_keys
    set locked_until = null, lock_token = null, fingerprint = %(fingerprint)s, job_id = %(job_id)s,
        response = json_build_object('job_id', %(job_id)s::uuid, 'status', 'processing',
                                     'message', 'Classification started', 'quota_remaining', quota.remaining)
    from quota
    where key_id = %(key_id)s and idempotency_key = %(idempotency_key)s
)
select remaining, now() as created_at, not room.is_left as is_held_back
from quota, room

-- claim_unpublished --
-- Queued jobs whose event is not known to be in Kafka: what is held back, by turns of tenants and as far as each has
-- room, and what somebody claimed who did not publish it. Two replicas that look at once choose the same jobs.
with recursive tenants as (
    (select tenant_id
     from jobs
     where published_at is null and publish_claimed_until is null and status = 'queued'
       and (file_url is null or fetched_at is not null)
     order by tenant_id
     limit 1)
    union all
    select (select tenant_id
            from jobs
            where published_at is null and publish_claimed_until is null and status = 'queued'
              and (file_url is null or fetched_at is not null) and jobs.tenant_id > tenants.tenant_id
            order by tenant_id
            limit 1)
    from tenants
    where tenants.tenant_id is not null
), room as (
    select tenant_id,
           case when %(tenant_jobs_max)s = 0 then %(limit)s
                else %(tenant_jobs_max)s - (
                    select count(*)
                    from (
                        select from jobs
                        where jobs.tenant_id = tenants.tenant_id
                          and (status = 'processing'
                               or (status = 'queued'
                                   and (published_at is not null or publish_claimed_until is not null)))
                        limit %(tenant_jobs_max)s) as in_kafka)
                end as jobs_max
    from tenants
    where tenant_id is not null
), held_back as (
    select job_id, created_at, row_number() over (partition by room.tenant_id order by created_at) as turn
    from room
    cross join lateral (
        select job_id, created_at
        from jobs
        where published_at is null and publish_claimed_until is null and status = 'queued'
          and (file_url is null or fetched_at is not null) and jobs.tenant_id = room.tenant_id
        order by created_at
        limit least(room.jobs_max, %(limit)s)) as oldest
), chosen as (
    (select job_id from held_back order by turn, created_at limit %(limit)s)
    union
    (select job_id
     from jobs
     where published_at is null and publish_claimed_until < now() and status = 'queued'
     order by publish_claimed_until
     limit %(limit)s)
    limit %(limit)s
)
update jobs
set publish_claimed_until = now() + %(lease)s, last_seen_at = now()
where job_id = any (array(  -- an array is looked up row by row, whatever the table's size
    select job_id
    from jobs
    where job_id = any (array(select job_id from chosen)) and published_at is null and status = 'queued'
      and (publish_claimed_until is null or publish_claimed_until < now())
    for update skip locked))
returning job_id, tenant_id, attempt, created_at, last_seen_at, object_name, media_type, size_bytes, categories,
          none_of_these, evidence, traceparent, file_url, fetch_attempts

-- mark_published --
-- The events are in Kafka. published_at is the last sign of life that was known when the event was handed over,
-- so that a later sign of life is always later, even one that overtakes this statement.
update jobs
set published_at = delivered.published_at, publish_claimed_until = null,
    published_partition = delivered.partition, published_offset = delivered.message_offset
from (
    select event.*
    from unnest(%(job_ids)s::uuid[], %(published_at)s::timestamptz[], %(partitions)s::int[], %(offsets)s::bigint[])
         as event (job_id, published_at, partition, message_offset)
    join jobs on jobs.job_id = event.job_id
    order by event.job_id  -- every writer locks rows in this order, so that two never wait for each other
    for update of jobs
) as delivered
where jobs.job_id = delivered.job_id
  and (jobs.published_at is null or jobs.published_at <= delivered.published_at)

-- release_unpublished --
-- The events did not get out: the relay may try at once.
update jobs
set publish_claimed_until = null
where job_id = any (array(
    select job_id
    from jobs
    where job_id = any(%(job_ids)s) and published_at is null
    order by job_id
    for update))

-- outbox_depth --
-- Jobs whose event is not in Kafka yet, and those of them that nobody is publishing although their document is here;
-- each count from the index of its own.
select being_published + to_fetch + held_back, held_back
from (select count(*) as held_back
      from jobs
      where published_at is null and publish_claimed_until is null and status = 'queued'
        and (file_url is null or fetched_at is not null)) as held_back,
     (select count(*) as being_published
      from jobs
      where published_at is null and publish_claimed_until is not null and status = 'queued') as being_published,
     (select count(*) as to_fetch
      from jobs
      where published_at is null and status = 'queued' and file_url is not null and fetched_at is null) as to_fetch

-- claim_fetches --
-- Jobs whose file_url nobody is fetching and whose time has come, by turns of tenants: first whose has the fewest fetches.
with recursive tenants as (
    (select tenant_id
     from jobs
     where published_at is null and status = 'queued' and file_url is not null and fetched_at is null
     order by tenant_id
     limit 1)
    union all
    select (select tenant_id
            from jobs
            where published_at is null and status = 'queued' and file_url is not null and fetched_at is null
              and jobs.tenant_id > tenants.tenant_id
            order by tenant_id
            limit 1)
    from tenants
    where tenants.tenant_id is not null
), chosen as (
    select job_id
    from tenants
    cross join lateral (
        select job_id, created_at, row_number() over (order by created_at) + (
                   select count(*)
                   from jobs as others
                   where others.tenant_id = tenants.tenant_id and published_at is null and status = 'queued'
                     and file_url is not null and fetched_at is null and fetch_claimed_until >= now()) as turn
        from (
            select job_id, created_at
            from jobs
            where jobs.tenant_id = tenants.tenant_id
              and published_at is null and status = 'queued' and file_url is not null and fetched_at is null
              and (fetch_claimed_until is null or fetch_claimed_until < now())
              and (fetch_not_before is null or fetch_not_before <= now())
            order by created_at
            limit %(limit)s) as oldest) as waiting
    order by turn, created_at
    limit %(limit)s
)
update jobs
set fetch_claimed_until = now() + %(lease)s, fetch_attempts = fetch_attempts + 1, last_seen_at = now()
where job_id = any (array(
    select job_id
    from jobs
    where job_id = any (array(select job_id from chosen)) and status = 'queued' and fetched_at is null
      and (fetch_claimed_until is null or fetch_claimed_until < now())
    for update skip locked))
returning job_id, tenant_id, attempt, created_at, last_seen_at, object_name, media_type, size_bytes, categories,
          none_of_these, evidence, traceparent, file_url, fetch_attempts

-- renew_fetch --
-- The fetch still runs; no row when the job was cancelled or another replica has it.
update jobs
set fetch_claimed_until = now() + %(lease)s, last_seen_at = now()
where job_id = %(job_id)s and status = 'queued' and fetch_attempts = %(fetch_attempts)s and fetched_at is null
returning job_id

-- end_fetch --
-- The document is in the store: the job waits for the relay, like any that is held back.
update jobs
set fetched_at = now(), fetch_claimed_until = null, media_type = %(media_type)s, size_bytes = %(size_bytes)s,
    last_seen_at = now(), progress = %(progress)s
where job_id = %(job_id)s and status = 'queued' and fetch_attempts = %(fetch_attempts)s and fetched_at is null
returning job_id

-- postpone_fetch --
-- Another try later; the claim ends now.
update jobs
set fetch_claimed_until = null, fetch_not_before = now() + %(delay)s
where job_id = %(job_id)s and fetch_attempts = %(fetch_attempts)s and fetched_at is null

-- mark_refused --
-- The terminal event of a job whose fetch failed is in Kafka; the projector ends the row.
update jobs
set published_at = now(), fetch_claimed_until = null
where job_id = %(job_id)s and status = 'queued' and fetched_at is null

-- projector_offsets --
-- How far the projector has read a topic.
select partition, next_offset
from consumer_offsets
where consumer_group = %(consumer_group)s and topic = %(topic)s

-- sweep --
-- Jobs without a sign of life for too long that no message in Kafka accounts for: a worker had them and went silent,
-- or their last message was worked off (below the workers' committed offset) or is no longer in the topic.
with position as (
    select *
    from unnest(%(partitions)s::int[], %(committed)s::bigint[], %(low)s::bigint[], %(high)s::bigint[])
         as p (partition, committed, low, high)
)
update jobs
set attempt = attempt + 1, last_seen_at = now()
where job_id in (
    select job_id
    from jobs
    left join position on position.partition = jobs.published_partition
    where status in ('queued', 'processing') and last_seen_at < now() - %(silence)s
      and object_name is not null and media_type is not null and size_bytes is not null and categories is not null
      and ((status = 'processing'
            and (attempt = 1 or published_at is null or last_seen_at > published_at
                 or last_seen_at < now() - 10 * %(silence)s))  -- the signs of life carry the worker's clock
           or (published_partition is not null
               and (position.partition is null
                    or published_offset < greatest(position.low, position.committed)
                    or published_offset >= position.high)))
    order by last_seen_at
    limit %(limit)s
    for update of jobs skip locked)
returning job_id, tenant_id, attempt, created_at, last_seen_at, object_name, media_type, size_bytes, categories,
          none_of_these, evidence, traceparent, file_url, fetch_attempts, true as is_swept

-- take_back_attempts --
-- The messages of swept jobs did not get out, so nobody tried them: their attempts are not spent.
update jobs
set attempt = jobs.attempt - 1
from unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as swept (job_id, attempt)
where jobs.job_id = swept.job_id and jobs.attempt = swept.attempt and status in ('queued', 'processing')

-- sweep_refused --
-- Jobs whose terminal event after a failed fetch never came back: fetched again, which says it again.
update jobs
set published_at = null, last_seen_at = now()
where job_id in (
    select job_id
    from jobs
    where status = 'queued' and file_url is not null and fetched_at is null and published_at is not null
      and published_at < now() - %(silence)s
    limit %(limit)s
    for update skip locked)

-- try_reaping --
-- Whether this connection may reap now; one at a time may, until it says stop_reaping or is closed.
select pg_try_advisory_lock(%(reaping_lock)s)

-- stop_reaping --
-- Let another replica reap.
select pg_advisory_unlock(%(reaping_lock)s)

-- documents_to_reap --
-- Jobs that ended long enough ago for their document to go, the oldest first. A job's end carries its worker's clock,
-- which may be far behind; created_at is this database's, and no job ended before it.
select job_id, object_name
from jobs
where finished_at < now() - %(keep)s and created_at < now() - %(keep)s and document_deleted_at is null
order by finished_at
limit %(limit)s

-- mark_documents_deleted --
-- The documents are no longer in the store.
update jobs
set document_deleted_at = now()
where job_id = any(%(job_ids)s) and finished_at is not null and document_deleted_at is null

-- reap_jobs --
-- Forget jobs that ended long enough ago, by both clocks, and whose document is gone; an answer to an Idempotency-Key
-- goes with its job.
delete from jobs
where job_id in (
    select job_id
    from jobs
    where document_deleted_at is not null and finished_at < now() - %(keep)s and created_at < now() - %(keep)s
    order by finished_at
    limit %(limit)s
    for update skip locked)

-- jobs_without_need --
-- Which of these documents no job needs: there is no such job, or its document was deleted before.
select named.job_id
from unnest(%(job_ids)s::uuid[]) as named (job_id)
where not exists (select from jobs where jobs.job_id = named.job_id and document_deleted_at is null)

-- is_migrated --
-- Fails when the tables are missing.
select from jobs limit 0

-- is_read_only --
-- Whether this is a standby, or somebody forbids to write.
select current_setting('transaction_read_only')::bool
