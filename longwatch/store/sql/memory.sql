-- take_places: the agent's next places; they end at the one returned
insert into memory_agent (agent, places, tasks, compacted, compacted_tasks) values (:agent, :amount, :tasks_total, 0, 0)
on conflict (agent) do update
   set places = memory_agent.places + excluded.places, tasks = memory_agent.tasks + excluded.tasks
returning places;

-- add: records of one agent, in their order, behind the place
insert into memory_record (id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, pinned)
select value ->> 0, :agent, :place + key + 1, value ->> 1, 'live', value ->> 2, value ->> 3, value ->> 4, value ->> 5,
       value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, 0
  from json_each(:rows);

-- add_words: make what was just added findable; what calls say is no text
insert into memory_words (rowid, body, tags)
select seq, coalesce(author || ' ', '') || substr(body, 1, 50000), :tag || ' qqk' || replace(kind, '_', '')
  from memory_record
 where agent = :agent and place between :first_place and :last_place and kind <> 'call';

-- known: which of these ids and keys are there already
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where id in (select value from json_each(:ids))
union
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where agent = :agent and key in (select value from json_each(:keys));

-- by_id: one record
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where id = :id;

-- by_key: one record
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where agent = :agent and key = :key;

-- by_places: records of one agent, in their order
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where agent = :agent and place in (select value from json_each(:listed)) order by place;

-- range: records of one agent from a place on, in their order
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where agent = :agent and place >= :first_place and place <= :last_place order by place limit :limit;

-- newest: the newest records of one agent before a place, newest first
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where agent = :agent and place < :before order by place desc limit :limit;

-- newest_of: the same of one kind and state
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record
 where agent = :agent and kind = :kind and state = :state and place < :before order by place desc limit :limit;

-- move: what becomes of a record, if it still is what it was read to be
update memory_record set state = :state, successor = :successor where seq = :seq and state = :was;

-- pin: keep from deletion, or no longer
update memory_record set pinned = :pinned where seq = :seq;

-- agents: everybody who remembers something
select agent, places, tasks, compacted, compacted_tasks from memory_agent order by agent;

-- agent: how much one remembers
select agent, places, tasks, compacted, compacted_tasks from memory_agent where agent = :agent;

-- charter: why the agent is there, as it counts
select version, body, sha256, at_ms, who from memory_charter where agent = :agent order by version desc limit 1;

-- add_charter: from now on this one counts
insert into memory_charter (agent, version, body, sha256, at_ms, who)
values (:agent, :version, :body, :sha, :wall_ms, :who);

-- add_receipt: who did what to memory
insert into memory_receipt (at_ms, who, action, agent, subject, note)
values (:wall_ms, :who, :action, :agent, :subject, :note);

-- receipts: what was done to one thing
select at_ms, who, action, agent, subject, note from memory_receipt where subject = :subject order by seq;

-- feed: up to where the journal was read
select epoch, seq from memory_feed where one = 1;

-- keep_feed: it was read up to there
insert into memory_feed (one, epoch, seq) values (1, :epoch, :seq)
on conflict (one) do update set epoch = excluded.epoch, seq = excluded.seq;

-- journal: what of the journal is remembered, from a place on; the last place looked at is in every row
select record.seq, record.at_ms, record.kind, record.subject, record.agent, record.task, record.data,
       task.kind as task_kind, task.args, task.result, task.error
  from record left join task on task.id = record.task and record.kind in ('task.done', 'task.failed', 'task.unknown')
 where record.seq > :after and record.seq <= :upto
   and (record.kind in ('task.done', 'task.failed', 'task.unknown', 'call.settled', 'call.unknown')
        or substr(record.kind, 1, 5) = 'note.')
 order by record.seq;

-- journal_end: the last entry there is
select coalesce(max(seq), 0) as seq from record;

-- epoch: which history of the state this is
select epoch from fleet where one = 1;

-- tally: so many more, or fewer, of a kind and state
insert into memory_count (agent, kind, state, records) values (:agent, :kind, :state, :amount)
on conflict (agent, kind, state) do update set records = memory_count.records + excluded.records;

-- counts: how many records an agent has of each kind and state
select kind, state, records from memory_count where agent = :agent;

-- oldest_of: the oldest records of one agent, of one kind and state
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where agent = :agent and kind = :kind and state = :state order by place limit :limit;

-- gone: which of these places are not live any more; the index that has all columns would be read through
select place from memory_record indexed by memory_record_place
 where agent = :agent and place in (select value from json_each(:listed)) and state <> 'live'
union all
select place from memory_left_gone where agent = :agent and place in (select value from json_each(:listed));

-- spread: how many records there are between two places, and the first and the last of them
select count(*) as records, min(place) as first_place, max(place) as last_place
  from memory_record where agent = :agent and place between :first_place and :last_place;

-- take_compactor: whoever gets a fence makes snapshots, and nobody else, until it runs out
insert into memory_compactor (one, holder, fence, until_ms) values (1, :holder, 1, :now_ms + :lease_ms)
on conflict (one) do update set holder = excluded.holder, fence = memory_compactor.fence + 1, until_ms = excluded.until_ms
 where memory_compactor.until_ms <= :now_ms or memory_compactor.holder = excluded.holder
returning fence;

-- push_compactor: who holds it goes on
update memory_compactor set until_ms = :now_ms + :lease_ms where fence = :fence and until_ms > :now_ms;

-- drop_compactor: who holds it is done
update memory_compactor set until_ms = 0 where fence = :fence;

-- add_snapshot: unless there is one that begins there
insert into memory_snapshot (id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms,
                             author, body, why)
values (:id, :agent, :level, :first_place, :last_place, :records, :tasks_total, :sha, :starts_ms, :ends_ms, :wall_ms,
        :author, :body, :why)
on conflict (agent, level, first_place) do nothing;

-- compacted: a snapshot covers what was not covered before
update memory_agent set compacted = :last_place, compacted_tasks = compacted_tasks + :tasks_total
 where agent = :agent and compacted = :first_place - 1;

-- adopt: these snapshots are part of a higher one
update memory_snapshot set parent = :parent
 where parent is null and id in (select value from json_each(:ids));

-- changes: how often the texts of these snapshots were changed, all together
select coalesce(sum(changes), 0) as changes from memory_snapshot where id in (select value from json_each(:ids));

-- tops: the snapshots that are part of no other one, from coarse to fresh
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot where agent = :agent and parent is null order by level desc, first_place;

-- snapshots: all of one level, a page at a time, in their order
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot where agent = :agent and level = :level and first_place > :after order by first_place limit :limit;

-- levels: how high an agent's snapshots go
select coalesce(max(level), 0) as level from memory_snapshot where agent = :agent;

-- match: of the records that say any of it, those whose words weigh most together, and of equals the newest
with asked as materialized (
  select json_extract(value, '$.match') as said, json_extract(value, '$.weight') as weight from json_each(:asked)
)
select memory_words.rowid as seq from asked cross join memory_words
 where memory_words match said
 group by memory_words.rowid order by sum(weight) desc, seq desc limit :limit;

-- match_between: the same of a stretch of time
with asked as materialized (
  select json_extract(value, '$.match') as said, json_extract(value, '$.weight') as weight from json_each(:asked)
)
select seq from asked cross join memory_words join memory_record on seq = memory_words.rowid
 where memory_words match said and at_ms >= :since_ms and at_ms <= :until_ms
 group by seq order by sum(weight) desc, seq desc limit :limit;

-- match_newest: the newest that say it; how far back they reach tells how many there are
select rowid as seq from memory_words where memory_words match :match order by rowid desc limit :limit;

-- match_newest_between: the same of a stretch of time
select seq from memory_words join memory_record on seq = memory_words.rowid
 where memory_words match :match and at_ms >= :since_ms and at_ms <= :until_ms
 order by memory_words.rowid desc limit :limit;

-- seqs_of: which of these are the agent's
select seq from memory_record where agent = :agent and seq in (select value from json_each(:listed));

-- part: how many records an agent wrote, and everybody; whether the index of words tells whose they are
select coalesce((select places from memory_agent where agent = :agent), 0) as own,
       coalesce((select max(seq) from memory_record), 0) as last, 1 as tagged;

-- by_seqs: records, wherever they are
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where seq in (select value from json_each(:listed));

-- redacted: records whose text is gone
select seq from memory_record where state = 'redacted';

-- imported: how far a file was read
select done, lines from memory_import where agent = :agent and file = :file;

-- keep_import: it was read up to there
insert into memory_import (agent, file, done, lines, at_ms) values (:agent, :file, :upto, :lines, :wall_ms)
on conflict (agent, file) do update set done = excluded.done, lines = excluded.lines, at_ms = excluded.at_ms;

-- redact: the text is gone, and whatever else was said with it
update memory_record set state = 'redacted', body = '[redacted]', data = null, author = null, key = null, trust = 'own'
 where seq = :seq;

-- redact_words: nor can it be found any more
delete from memory_words where rowid = :seq;

-- redact_receipts: what was said of it when it was closed
update memory_receipt set note = '[redacted]' where subject = :subject and action in ('close', 'supersede');

-- holding: snapshots that a record is in, from the lowest up
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot
 where agent = :agent and first_place <= :place and last_place >= :place order by level;

-- children: what a snapshot is made of
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot where parent = :parent order by first_place;

-- rewrite: a snapshot without what was redacted in it
update memory_snapshot set body = :body, sha256 = :sha, author = :author, why = :why, changes = changes + 1 where id = :id;

-- redact_journal: what the journal tells of a record that a run noted
update record set data = :data where task = :task and substr(kind, 1, 5) = 'note.' and data like :pattern escape '!';

-- redact_task: what a task was given and what came of it
update task set args = '{}', result = case when result is null then null else '"[redacted]"' end,
       error = case when error is null then null else '[redacted]' end where id = :task;

-- redact_steps: and its steps
update step set result = '"[redacted]"' where task = :task and result is not null;

-- redact_runs: and its attempts
update run set error = '[redacted]' where task = :task and error is not null;

-- redact_told: and what the journal tells of its ends
update record set data = '{"redacted":true}' where task = :task and substr(kind, 1, 5) = 'task.' and data <> '{}';

-- snapshot: one of them
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot where id = :id;

-- take_writer: whoever gets a fence asks for snapshots, and nobody else, until it runs out; nobody before a pause is over
insert into memory_writer (one, holder, fence, until_ms, failures, again_ms) values (1, :holder, 1, :now_ms + :lease_ms, 0, 0)
on conflict (one) do update set holder = excluded.holder, fence = memory_writer.fence + 1, until_ms = excluded.until_ms
 where memory_writer.until_ms <= :now_ms and memory_writer.again_ms <= :now_ms
returning fence, failures;

-- begin_writer: a model is about to be asked; whoever dies over it has let everybody pause
update memory_writer set until_ms = :now_ms + :lease_ms, again_ms = :now_ms + :delay_ms, failures = failures + 1, why = :why
 where fence = :fence and until_ms > :now_ms;

-- push_writer: who holds it goes on
update memory_writer set until_ms = :now_ms + :lease_ms where fence = :fence and until_ms > :now_ms;

-- ease_writer: an answer has come
update memory_writer set failures = 0, again_ms = 0, why = null where fence = :fence and until_ms > :now_ms;

-- note_writer: why there was none
update memory_writer set why = :why where fence = :fence;

-- drop_writer: who holds it is done
update memory_writer set until_ms = 0 where fence = :fence;

-- writer: whether anybody may ask now, and why not
select failures, again_ms > :now_ms as pauses, until_ms > :now_ms as asks, why from memory_writer where one = 1;

-- unwritten: the offline snapshot that was asked for the least often, the newest of those; none that waits for a batch
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot
 where level = 1 and author = 'offline' and stands = 0 and id not in (select snapshot from memory_batch)
 order by tries, ends_ms desc, first_place desc limit 1;

-- unwritten_of: the same of one agent
select id, agent, level, first_place, last_place, records, tasks, sha256, starts_ms, ends_ms, made_ms, author, body, parent,
       why, micros, dropped, tries, stands, changes
  from memory_snapshot
 where level = 1 and author = 'offline' and stands = 0 and agent = :agent and id not in (select snapshot from memory_batch)
 order by tries, ends_ms desc, first_place desc limit 1;

-- try_snapshot: it is asked for once more
update memory_snapshot set tries = tries + 1 where id = :id;

-- write_snapshot: the text of a model in place of the offline one, unless that was changed meanwhile
update memory_snapshot set body = :body, author = :author, why = null, micros = micros + :micros, dropped = :dropped,
       changes = changes + 1
 where id = :id and changes = :changes and author = 'offline';

-- leave_snapshot: it stays offline, for now or for good
update memory_snapshot set why = :why, stands = :stands, micros = micros + :micros, dropped = :dropped
 where id = :id and author = 'offline';

-- refold: a snapshot of others, made of them anew
update memory_snapshot set body = :body, author = :author, changes = changes + 1 where id = :id;
