-- The tables that producer_api and status_service share. Applied before the services start.
-- The CHECKs repeat schemas/lifecycle.py: what must never be stored cannot be.

create table api_keys (
    key_id uuid primary key default gen_random_uuid(),
    name text not null check (length(name) between 1 and 200),  -- also the tenant: keys of one name see the same jobs
    key_hash bytea not null unique,  -- SHA-256 of the key; the key itself is never stored
    prefix text not null,  -- the key's first characters, for people to tell keys apart
    quota_limit bigint not null check (quota_limit >= 0),
    quota_used bigint not null default 0 check (quota_used >= 0),
    rate_per_minute integer check (rate_per_minute > 0),  -- null: no limit
    rate_next_at timestamptz not null default '-infinity',  -- GCRA: theoretical arrival time of the next request
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

create table jobs (
    job_id uuid primary key,
    tenant_id text not null,
    key_id uuid references api_keys,  -- null: the row was rebuilt from the topics
    status text not null check (status in ('queued', 'processing', 'completed', 'failed', 'cancelled')),
    progress text not null check (progress <> ''),
    attempt integer not null default 1 check (attempt >= 1),
    error_code text,
    error text,
    result json,  -- not jsonb: the order of the scores counts
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    last_seen_at timestamptz not null,  -- last sign of life, for the sweeper

    -- what the job's event says; null where the row was rebuilt from an event that does not say it
    object_name text,
    media_type text,
    size_bytes bigint,
    categories text[],
    traceparent text,

    -- file_url: fetched in the background by whichever producer_api holds the claim
    file_url text,
    fetched_at timestamptz,
    fetch_attempts integer not null default 0,
    fetch_claimed_until timestamptz,
    fetch_not_before timestamptz,

    -- the outbox: when and where the job's last event got into Kafka
    published_at timestamptz,
    publish_claimed_until timestamptz,
    published_partition integer,
    published_offset bigint,

    check ((status in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
    check ((status = 'completed') = (result is not null)),
    check ((status = 'failed') = (error is not null)),
    check ((status = 'failed') = (error_code is not null)),
    check (status <> 'queued' or started_at is null)
);

create index jobs_by_tenant on jobs (tenant_id, created_at desc, job_id);
create index jobs_unpublished on jobs (created_at) where published_at is null and status = 'queued';
create index jobs_unfinished on jobs (last_seen_at) where status in ('queued', 'processing');

create table idempotency_keys (
    key_id uuid not null references api_keys,
    idempotency_key text not null,
    locked_until timestamptz,  -- a request is under way; it renews this while it lives. null: answered
    lock_token uuid,  -- who holds the lock
    fingerprint bytea,  -- SHA-256 over file or URL, categories and options
    job_id uuid references jobs on delete cascade,
    response json,  -- the first answer's body
    created_at timestamptz not null default now(),
    primary key (key_id, idempotency_key),
    check ((locked_until is null) = (response is not null)),
    check ((response is null) = (job_id is null)),
    check ((response is null) = (fingerprint is null))
);

-- How far the projector has come: written in the same transaction as the rows it leads to.
create table consumer_offsets (
    consumer_group text not null,
    topic text not null,
    partition integer not null,
    next_offset bigint not null check (next_offset >= 0),
    owner_epoch bigint not null default 0,  -- raised at each assignment, so that a zombie's transaction fails
    primary key (consumer_group, topic, partition)
);
