-- Files that a model keeps by its memory tool: what there is now, and every version there ever was of each.
create table memory_file (
  agent text not null,
  path text not null,               -- below /memories
  version bigint not null,          -- the newest one
  bytes bigint not null,
  at_ms bigint not null,            -- when it was changed, by the calendar
  primary key (agent, path)
);
create index memory_file_newest on memory_file (agent, at_ms);

create table memory_version (
  seq integer primary key,
  change text not null,             -- the id of the command that made it; one may change many files
  agent text not null,
  path text not null,
  version bigint not null,          -- from one without a gap
  action text not null,             -- create, str_replace, insert, delete, rename, restore
  state text not null,              -- kept, dropped, redacted
  body text,                        -- null: from this version on there is no such file, or its text is not kept
  bytes bigint not null,
  sha256 text not null,             -- of the body; empty where the file is gone, or redacted
  other text,                       -- the path that it was renamed from or to
  at_ms bigint not null,
  who text not null,
  run text
);
create unique index memory_version_path on memory_version (agent, path, version);
create index memory_version_change on memory_version (agent, change);
create index memory_version_kept on memory_version (agent, seq) where body is not null;

create table memory_shelf (
  agent text primary key,
  bytes bigint not null             -- of all bodies that are kept
);

-- Commands that have changed files, and of which the journal may not have told yet.
create table memory_untold (
  change text primary key,          -- of memory_version
  agent text not null,
  action text not null,
  path text not null,
  other text,
  files bigint not null,            -- how many were changed
  who text not null,
  run text,
  task text,
  at_ms bigint not null
);
