-- Tenants take turns: what waits in Postgres until its tenant has fewer jobs in Kafka, and what is in Kafka.
-- Each index serves one statement of producer_api that must stay cheap behind a backlog of any length.

-- held back: the document is here, the event is not in Kafka, and nobody is publishing it
create index jobs_held_back on jobs (tenant_id, created_at)
    where published_at is null and publish_claimed_until is null and status = 'queued'
        and (file_url is null or fetched_at is not null);

-- claimed for publishing: taken up again when whoever claimed it died
create index jobs_being_published on jobs (publish_claimed_until)
    where published_at is null and publish_claimed_until is not null and status = 'queued';

-- in Kafka, or on the way there, and not ended
create index jobs_in_kafka on jobs (tenant_id)
    where status = 'processing'
        or (status = 'queued' and (published_at is not null or publish_claimed_until is not null));

create index jobs_to_fetch on jobs (tenant_id, created_at)
    where published_at is null and status = 'queued' and file_url is not null and fetched_at is null;

-- The order of all tenants together leads through every backlog.
drop index jobs_unpublished;
