-- live: one file as it is
select file.agent, file.path, file.version, file.bytes, file.at_ms, kept.body, kept.who, kept.run
  from memory_file file join memory_version kept
    on kept.agent = file.agent and kept.path = file.path and kept.version = file.version
 where file.agent = :agent and file.path = :path;

-- below: the files of a folder, in the order of their names; from and to are the paths around it
select file.agent, file.path, file.version, file.bytes, file.at_ms, null as body, kept.who, kept.run
  from memory_file file join memory_version kept
    on kept.agent = file.agent and kept.path = file.path and kept.version = file.version
 where file.agent = :agent and file.path >= :lowest and file.path < :highest order by file.path limit :limit;

-- among: which of these are files
select path from memory_file where agent = :agent and path in (select value from json_each(:paths)) limit 1;

-- newest: what was changed last
select file.agent, file.path, file.version, file.bytes, file.at_ms, null as body, kept.who, kept.run
  from memory_file file join memory_version kept
    on kept.agent = file.agent and kept.path = file.path and kept.version = file.version
 where file.agent = :agent order by file.at_ms desc, file.path limit :limit;

-- extent: how many files there are, and how large they are together
select count(*) as files, cast(coalesce(sum(bytes), 0) as bigint) as bytes from memory_file where agent = :agent;

-- know_agent: who has files remembers something
insert into memory_agent (agent, places, tasks, compacted, compacted_tasks) values (:agent, 0, 0, 0, 0)
on conflict (agent) do nothing;

-- last_version: the newest there ever was of a path
select coalesce(max(version), 0) as version from memory_version where agent = :agent and path = :path;

-- keep: the file is this from now on
insert into memory_file (agent, path, version, bytes, at_ms) values (:agent, :path, :version, :bytes, :wall_ms)
on conflict (agent, path) do update set version = excluded.version, bytes = excluded.bytes, at_ms = excluded.at_ms;

-- lose: there is no such file any more
delete from memory_file where agent = :agent and path = :path;

-- lose_version: no such file, if this is still what it is
delete from memory_file where agent = :agent and path = :path and version = :version;

-- add_version: what became of a path, and by whom
insert into memory_version (change, agent, path, version, action, state, body, bytes, sha256, other, at_ms, who, run)
values (:change, :agent, :path, :version, :action, 'kept', :body, :bytes, :sha, :other, :wall_ms, :who, :run);

-- changed: what a command has done, if it was done already
select seq, change, agent, path, version, action, state, body, bytes, sha256, other, at_ms, who, run
  from memory_version where agent = :agent and change = :change order by seq;

-- versions: all of one path before a version, the newest first, without their text
select seq, change, agent, path, version, action, state, null as body, bytes, sha256, other, at_ms, who, run
  from memory_version where agent = :agent and path = :path and version < :before order by version desc limit :limit;

-- version: one of them, with its text
select seq, change, agent, path, version, action, state, body, bytes, sha256, other, at_ms, who, run
  from memory_version where agent = :agent and path = :path and version = :version;

-- history: every version of an agent's files, a page at a time
select seq, change, agent, path, version, action, state, body, bytes, sha256, other, at_ms, who, run
  from memory_version where agent = :agent and seq > :after order by seq limit :limit;

-- grow: so many bytes of text more are kept, or fewer; how many there are then
insert into memory_shelf (agent, bytes) values (:agent, :amount)
on conflict (agent) do update set bytes = memory_shelf.bytes + excluded.bytes
returning bytes;

-- oldest: the oldest texts that are of no file as it is
select seq, bytes from memory_version old
 where agent = :agent and body is not null
   and not exists (select 1 from memory_file file
                    where file.agent = old.agent and file.path = old.path and file.version = old.version)
 order by seq limit :limit;

-- drop: these texts are kept no longer; who wrote them, when, and their checksum are
update memory_version set body = null, state = 'dropped' where seq in (select value from json_each(:listed));

-- redact: the text is gone for good, and what could tell a guess from it
update memory_version set body = null, state = 'redacted', bytes = 0, sha256 = ''
 where seq in (select value from json_each(:listed));

-- owe: a command changes files, and the journal has to be told
insert into memory_untold (change, agent, action, path, other, files, who, run, task, at_ms)
values (:change, :agent, :action, :path, :other, :files, :who, :run, :task, :wall_ms);

-- untold: what the journal may not have been told of for so long
select change, agent, action, path, other, files, who, run, task
  from memory_untold where at_ms <= :wall_ms - :age_ms order by at_ms, change limit :limit;

-- told: the journal has been told of these
delete from memory_untold where change in (select value from json_each(:listed));
