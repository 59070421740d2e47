-- How many jobs have not ended, by state, and the oldest of them: status_service counts them all the time. The index
-- holds nothing else, so what has ended, which is nearly everything, costs nothing.

create index jobs_unfinished_by_age on jobs (status, created_at) where status in ('queued', 'processing');
