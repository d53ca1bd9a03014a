-- One lease covers one or several resources with one fence. A lease of another boot, or past its end, is over
-- whether or not anybody has swept it.
create table lease (
  id text primary key,
  fence bigint not null unique,
  owner text not null,            -- random id of the process's open fleet
  agent text not null,
  task text,
  edit text,                      -- the edit it is for: its staging folder lives as long as the lease
  ttl_ms bigint not null,
  until_ms bigint not null,
  boot_id text not null
) without rowid;
create index lease_until on lease (until_ms);
create index lease_owner on lease (owner);

create table lease_on (
  resource text primary key,
  lease text not null
) without rowid;
create index lease_on_lease on lease_on (lease);

-- Who stands in line for which resources; a row that was not confirmed for a second is void.
create table lease_waiter (
  seq integer primary key,
  id text not null unique,        -- of the lease that will be taken
  owner text not null,
  agent text not null,
  task text,
  resources text not null,        -- JSON list
  asked_ms bigint not null
);

-- A commit of files: what the next comer has to finish when its process dies. The newest row is never dropped,
-- because `seq` also tells a reader whether anything was committed while it read.
create table edit (
  seq integer primary key,
  id text not null unique,
  root text not null,             -- id of the folder it belongs to
  owner text not null,
  agent text not null,
  task text,
  items text not null,            -- JSON: place, target, sha256, mode
  applied_ms bigint
);
create index edit_pending on edit (root, seq) where applied_ms is null;
