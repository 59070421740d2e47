-- The statements of status_service. The case expressions are the ranks of schemas/lifecycle.py: queued 0,
-- processing 1, terminal 2. tests/integration/status/test_store.py holds the two together, pair by pair.
-- Long arrays are sent in binary (%b): the client would spend more time on escaping texts than on all else.

-- find_jobs --
-- Jobs as clients see them; `result` as the very text that was stored, since the order of its keys counts.
select
    job_id, tenant_id, status, progress, error_code, error, result::text as result, created_at, started_at, finished_at
from jobs
where job_id = any(%(job_ids)s)

-- count_unfinished --
-- Jobs that have not ended, by state, and the age of the oldest in seconds; from the index jobs_unfinished_by_age alone.
select status, count(*), extract(epoch from now() - min(created_at))::float8
from jobs
where status in ('queued', 'processing')
group by status

-- limit_idle_transactions --
-- Postgres ends this session when it begins a transaction and then says nothing for so long.
set idle_in_transaction_session_timeout = '5s'

-- claim_partitions --
-- Make a group's partitions ours: whoever wrote them before fails from now on, because the epoch is another.
insert into consumer_offsets as o (consumer_group, topic, partition, next_offset, owner_epoch)
select %(consumer_group)s, c.topic, c.partition, 0, 1
from unnest(%(topics)s::text[], %(partitions)s::integer[]) as c (topic, partition)
order by c.topic, c.partition
on conflict (consumer_group, topic, partition) do update set owner_epoch = o.owner_epoch + 1
returning topic, partition, next_offset, owner_epoch

-- restart_partition --
-- Begin a partition anew, because the topic does not have the offset that is stored.
update consumer_offsets
set next_offset = %(next_offset)s
where consumer_group = %(consumer_group)s and topic = %(topic)s and partition = %(partition)s
    and owner_epoch = %(owner_epoch)s

-- advance_offsets --
-- Move on; a partition that another process has claimed since, or of which Postgres forgot rows, is not returned.
update consumer_offsets as o
set next_offset = c.next_offset
from unnest(
    %(topics)s::text[], %(partitions)s::integer[], %(owner_epochs)s::bigint[],
    %(from_offsets)s::bigint[], %(next_offsets)s::bigint[]
) as c (topic, partition, owner_epoch, from_offset, next_offset)
where o.consumer_group = %(consumer_group)s and o.topic = c.topic and o.partition = c.partition
    and o.owner_epoch = c.owner_epoch
    -- the first: a batch whose commit was not heard of is written again;
    -- the second: a topic that was made anew under a running projector begins at 0 again
    and (o.next_offset between c.from_offset and c.next_offset or o.next_offset = c.from_offset)
returning o.topic, o.partition

-- lock_jobs --
-- Take the locks of a batch whose rows two statements write, in the one order in which everybody takes them.
select from jobs where job_id = any(%(job_ids)b) order by job_id for update

-- upsert_jobs --
-- What events said about jobs, folded to one change a job. A job only climbs, and a terminal row keeps what it says;
-- columns that the row does not have yet (it was rebuilt from another topic) are filled at any time.
insert into jobs as j (
    job_id, tenant_id, status, progress, attempt, error_code, error, result, created_at, started_at, finished_at,
    last_seen_at, object_name, media_type, size_bytes, categories, none_of_these, evidence, traceparent,
    published_at, published_partition, published_offset
)
select
    c.job_id, c.tenant_id, c.status, c.progress, c.attempt, c.error_code, c.error, c.result::json, c.created_at,
    c.started_at, c.finished_at, c.last_seen_at, c.object_name, c.media_type, c.size_bytes, c.categories::text[],
    c.none_of_these, c.evidence, c.traceparent, c.published_at, c.published_partition, c.published_offset
from unnest(
    %(job_id)b::uuid[], %(tenant_id)b::text[], %(status)b::text[], %(progress)b::text[], %(attempt)b::integer[],
    %(error_code)b::text[], %(error)b::text[], %(result)b::text[], %(created_at)b::timestamptz[],
    %(started_at)b::timestamptz[], %(finished_at)b::timestamptz[], %(last_seen_at)b::timestamptz[],
    %(object_name)b::text[], %(media_type)b::text[], %(size_bytes)b::bigint[], %(categories)b::text[],
    %(none_of_these)b::double precision[], %(evidence)b::boolean[],
    %(traceparent)b::text[], %(published_at)b::timestamptz[], %(published_partition)b::integer[],
    %(published_offset)b::bigint[]
) as c (
    job_id, tenant_id, status, progress, attempt, error_code, error, result, created_at, started_at, finished_at,
    last_seen_at, object_name, media_type, size_bytes, categories, none_of_these, evidence, traceparent,
    published_at, published_partition, published_offset
)
order by c.job_id  -- every writer locks rows in this order, so that two never wait for each other
on conflict (job_id) do update set
    status = case
        when case j.status when 'queued' then 0 when 'processing' then 1 else 2 end
            < case excluded.status when 'queued' then 0 when 'processing' then 1 else 2 end
        then excluded.status else j.status end,
    progress = case
        when case j.status when 'queued' then 0 when 'processing' then 1 else 2 end
            < case excluded.status when 'queued' then 0 when 'processing' then 1 else 2 end
        then excluded.progress
        when j.status = 'processing' and excluded.status = 'processing' and j.last_seen_at < excluded.last_seen_at
        then excluded.progress else j.progress end,
    started_at = case
        when j.finished_at is null and excluded.status <> 'queued' then least(j.started_at, excluded.started_at)
        else j.started_at end,
    last_seen_at = case
        when j.finished_at is null then greatest(j.last_seen_at, excluded.last_seen_at) else j.last_seen_at end,
    error_code = case when j.finished_at is null then excluded.error_code else j.error_code end,
    error = case when j.finished_at is null then excluded.error else j.error end,
    result = case when j.finished_at is null then excluded.result else j.result end,
    finished_at = coalesce(j.finished_at, excluded.finished_at),
    attempt = greatest(j.attempt, excluded.attempt),
    object_name = coalesce(j.object_name, excluded.object_name),
    media_type = coalesce(j.media_type, excluded.media_type),
    size_bytes = coalesce(j.size_bytes, excluded.size_bytes),
    categories = coalesce(j.categories, excluded.categories),
    none_of_these = coalesce(j.none_of_these, excluded.none_of_these),
    evidence = j.evidence or excluded.evidence,
    traceparent = coalesce(j.traceparent, excluded.traceparent),
    published_at = coalesce(j.published_at, excluded.published_at),
    published_partition = coalesce(j.published_partition, excluded.published_partition),
    published_offset = coalesce(j.published_offset, excluded.published_offset)
where case j.status when 'queued' then 0 when 'processing' then 1 else 2 end
        < case excluded.status when 'queued' then 0 when 'processing' then 1 else 2 end
    or j.attempt < excluded.attempt
    or (j.object_name is null and excluded.object_name is not null)
    or (j.status = 'processing' and excluded.status = 'processing'
        and (j.last_seen_at < excluded.last_seen_at or excluded.started_at < j.started_at))
returning j.job_id, j.status

-- update_progress --
-- Signs of life: the words change while the job is processed, and never back to older ones.
update jobs as j
set progress = case when j.status = 'processing' then c.progress else j.progress end, last_seen_at = c.last_seen_at
from (
    select w.job_id, w.progress, w.last_seen_at
    from unnest(%(job_id)b::uuid[], %(progress)b::text[], %(last_seen_at)b::timestamptz[])
        as w (job_id, progress, last_seen_at)
    join jobs on jobs.job_id = w.job_id
    order by w.job_id
    for update of jobs
) as c
where j.job_id = c.job_id and j.finished_at is null and j.last_seen_at <= c.last_seen_at

-- notify --
-- Tell every process that listens which jobs changed, once this transaction is committed.
select pg_notify(%(channel)s, payload) from unnest(%(payloads)s::text[]) as payload
