-- When the document of an ended job was deleted from the object store. Services of the release before leave it null.

alter table jobs
    add column document_deleted_at timestamptz
        check (document_deleted_at is null or finished_at is not null);  -- no job without its document

-- An ended job is in the first until its document is deleted, then in the second until its row is.
create index jobs_with_document on jobs (finished_at) where finished_at is not null and document_deleted_at is null;
create index jobs_without_document on jobs (finished_at) where document_deleted_at is not null;

-- Deleting a job looks here.
create index idempotency_keys_by_job on idempotency_keys (job_id) where job_id is not null;
