-- What a request may ask for besides its categories. Services of the release before leave the defaults.

alter table jobs
    add column none_of_these double precision check (none_of_these between 0 and 1),  -- null: not asked
    add column evidence boolean not null default false;
