-- Which code a worker runs: the last migration that it knows. 0: older code than this, which does not say.
alter table worker add column schema bigint not null default 0;
