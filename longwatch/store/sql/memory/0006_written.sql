-- Who wrote a snapshot, what that cost, and whether somebody is still to be asked for it.
alter table memory_snapshot add column why text;                           -- it is offline; null: nobody is to be asked
alter table memory_snapshot add column micros bigint not null default 0;   -- what all answers to it have cost
alter table memory_snapshot add column dropped bigint not null default 0;  -- claims of the last answer that were not kept
alter table memory_snapshot add column tries bigint not null default 0;
alter table memory_snapshot add column stands bigint not null default 0;   -- 1: it is not asked for any more
alter table memory_snapshot add column changes bigint not null default 0;  -- of its text, since it was made
create index memory_snapshot_unwritten on memory_snapshot (tries, ends_ms)
 where level = 1 and author = 'offline' and stands = 0;

-- Who asks a model, and not before when, after how many failures in a row.
create table memory_writer (
  one integer primary key,
  holder text not null,
  fence bigint not null,
  until_ms bigint not null,
  failures bigint not null,
  again_ms bigint not null,
  why text
);
