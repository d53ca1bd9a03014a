-- fleet.schema: SQLite has it in the header of its file
select coalesce(max(number), 0) as number from longwatch_schema;

-- fleet.latest_instant: the greatest of several values is not called max
select greatest(coalesce((select submitted_ms from task order by seq desc limit 1), 0),
                coalesce((select started_ms from run order by fence desc limit 1), 0),
                coalesce((select max(ended_ms) from (select ended_ms from run order by fence desc limit 100) as latest), 0),
                coalesce((select max(beat_ms) from worker), 0),
                coalesce((select admitted_ms from call order by seq desc limit 1), 0),
                coalesce((select greatest(upkeep_ms, offset_ms) from fleet), 0)) as at_ms;

-- fleet.reboot: in another history of the server fences begin at the instant, days since 2025 and 2^13 for each ms of the day
with boot as (
  select :boot_id like 'server %' and boot_id <> :boot_id as other, epoch, fence,
         (:wall_ms - 1735689600000) / 86400000 as day, (:wall_ms - 1735689600000) % 86400000 * 8192 as start
    from fleet
), begins as (
  select other,
         case when not other then epoch when (day, start) > (epoch, fence) then day else epoch + 1 end as epoch,
         case when not other then fence when (day, start) > (epoch, fence) then start else 0 end as fence
    from boot
), aged as (
  update task set epoch = 0 where epoch >= (select begins.epoch from begins where other)
), forgotten as (
  update engine set generation = '' where (select other from boot)
)
update fleet set epoch = begins.epoch, fence = begins.fence, boot_id = :boot_id, offset_ms = :offset_ms from begins;

-- tasks.due: if so, one at a time makes them ready: who waited for their rows would keep them from others, and take few of them
select 1 as due, pg_advisory_xact_lock(place, 6)
  from (select 1 from task where state = 'scheduled' and ready_ms <= :now_ms limit 1) as found,
       (select cast(cast(oid as bigint) % 2147483648 as integer) as place
          from pg_namespace where nspname = current_schema() offset 0) as here;

-- tasks.come_due: in the order of locks; who waited for his turn finds them ready
update task set state = 'ready'
 where seq in (select seq from task where state = 'scheduled' and ready_ms <= :now_ms order by seq for update);

-- tasks.ready_of_kind: what somebody else is about to take is skipped
select lane, seq from task where state = 'ready' and kind = :kind order by lane, seq limit :limit for update skip locked;

-- tasks.claim: as `between` no index of what is ready fits the guard: each is found by its place, however many are ready
update task set state = 'claimed', owner = :owner, until_ms = :now_ms + :lease_ms,
                fence = :fence + array_position(cast(translate(:listed, '[]', '{}') as bigint[]), seq) - 1
 where seq = any (cast(translate(:listed, '[]', '{}') as bigint[])) and state between 'ready' and 'ready'
returning task.id, task.kind, task.args, task.state, task.key, task.batch, task.agent, task.budget, task.lane,
          task.seq, task.ready_ms, task.submitted_ms, task.ended_ms, task.retries, task.failures, task.crashes,
          task.crash_limit, task.timeout_ms, task.result, task.error, task.cause, task.owner, task.fence,
          task.until_ms,
          exists (select 1 from step where step.task = task.id) as begun,
          exists (select 1 from need where need.needs = task.id and need.met < 1) as needed,
       (select coalesce(sum(case dimension when 'money' then 1 when 'calls' then 2 else 4 end), 0)
          from task_cap where task_cap.task = task.id) as capped;

-- tasks.owned: as `< 1` no index of all open needs fits: those of the task are found by it, however many there are
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms,
       exists (select 1 from step where step.task = task.id) as begun,
       exists (select 1 from need where need.needs = task.id and need.met < 1) as needed,
       (select coalesce(sum(case dimension when 'money' then 1 when 'calls' then 2 else 4 end), 0)
          from task_cap where task_cap.task = task.id) as capped
  from task
 where state in ('claimed', 'running') and until_ms >= 0 and owner = :owner;

-- tasks.dependants: whoever meets the last need must see the others met: one at a time; `< 1` as in tasks.owned
select need.task, need.fate, task.state, task.cause
  from need join task on task.id = need.task
 where need.needs = :needs and need.met < 1
 order by task.seq for update of task;

-- tasks.waited_for: whether tasks.dependants would find somebody, asked without locking anybody
select 1 as waits from need where needs = :needs and met < 1 limit 1;

-- tasks.beat: elements of a list are text
update task set until_ms = :until_ms
 where owner = :owner and state in ('claimed', 'running') and until_ms > :now_ms
   and fence in (select cast(value as bigint) from json_each(:fences))
returning fence;

-- look.lives: the engine's version
select name, created_ms, epoch, fence, boot_id, current_setting('server_version') as engine, :now_ms as steady_ms,
       :wall_ms as calendar_ms
  from fleet;

-- backup.carry_spend: elements of a list are JSON, and the greater of two values is not called max
insert into spend (purse, ends_ms, dimension, per, starts_ms, settled)
select value ->> 0, cast(value ->> 1 as bigint), value ->> 2, value ->> 3, cast(value ->> 4 as bigint),
       cast(value ->> 5 as bigint)
  from jsonb_array_elements(cast(:rows as jsonb))
on conflict (purse, ends_ms, dimension, per) do update set settled = greatest(spend.settled, excluded.settled);

-- backup.carry_meters: the same
insert into meter (name, free_us, last_us, total)
select value ->> 0, cast(value ->> 1 as bigint), cast(value ->> 2 as bigint), cast(value ->> 3 as bigint)
  from jsonb_array_elements(cast(:rows as jsonb))
on conflict (name) do update
   set free_us = greatest(meter.free_us, excluded.free_us), last_us = greatest(meter.last_us, excluded.last_us),
       total = greatest(meter.total, excluded.total);

-- backup.carry_calendar: the later of two instants is not called max
update calendar set at_ms = greatest(at_ms, :at_ms);

-- memory.add: elements of a list are JSON, and its places are counted from one; with its words, because a row that gets them
-- later is written twice, in each of its indexes too, and leaves half of their pages empty for good
insert into memory_record (id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, pinned,
                           words)
select value ->> 0, :agent, :place + number, value ->> 1, 'live', cast(value ->> 2 as bigint), value ->> 3, value ->> 4,
       value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, 0,
       case when value ->> 1 <> 'call'
            then to_tsvector('english', coalesce(value ->> 5 || ' ', '') || substr(value ->> 9, 1, 50000)) end
  from jsonb_array_elements(cast(:rows as jsonb)) with ordinality as listed (value, number)
 order by number;

-- memory.add_words: words are in the record's own row, without the tags that stand for its agent and kind; of what came
-- without them
update memory_record
   set words = to_tsvector('english', coalesce(author || ' ', '') || substr(body, 1, 50000))
 where agent = :agent and place between :first_place and :last_place and words is null and kind <> 'call'
   and :tag <> '';

-- memory.by_places: elements of a list are text
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record
 where agent = :agent and place in (select cast(value as bigint) from json_each(:listed)) order by place;

-- memory.gone: elements of a list are text
select place from memory_record
 where agent = :agent and place in (select cast(value as bigint) from json_each(:listed)) and state <> 'live'
union all
select place from memory_left_gone
 where agent = :agent and place in (select cast(value as bigint) from json_each(:listed));

-- memory.match: words are in the record's own row
with asked as materialized (
  select to_tsquery('english', cast(value as json) ->> 'words') as said, cast(cast(value as json) ->> 'weight' as bigint) as weight
    from json_each(:asked)
)
select seq from asked join memory_record on words @@ said
 where agent = :agent and (:kinds is null or kind in (select value from json_each(:kinds)))
 group by seq order by sum(weight) desc, seq desc limit :limit;

-- memory.match_between: the same
with asked as materialized (
  select to_tsquery('english', cast(value as json) ->> 'words') as said, cast(cast(value as json) ->> 'weight' as bigint) as weight
    from json_each(:asked)
)
select seq from asked join memory_record on words @@ said
 where agent = :agent and (:kinds is null or kind in (select value from json_each(:kinds)))
   and at_ms >= :since_ms and at_ms <= :until_ms
 group by seq order by sum(weight) desc, seq desc limit :limit;

-- memory.match_newest: the same
select seq from memory_record
 where agent = :agent and words @@ to_tsquery('english', :words)
   and (:kinds is null or kind in (select value from json_each(:kinds)))
 order by seq desc limit :limit;

-- memory.match_newest_between: the same
select seq from memory_record
 where agent = :agent and words @@ to_tsquery('english', :words)
   and (:kinds is null or kind in (select value from json_each(:kinds)))
   and at_ms >= :since_ms and at_ms <= :until_ms
 order by seq desc limit :limit;

-- memory.by_seqs: elements of a list are text
select seq, id, agent, place, kind, state, at_ms, task, thread, author, source, trust, key, body, data, successor, pinned
  from memory_record where seq in (select cast(value as bigint) from json_each(:listed));

-- memory.part: words are in the record's own row, and beside them whose it is
select coalesce((select places from memory_agent where agent = :agent), 0) as own,
       coalesce((select max(seq) from memory_record), 0) as last, 0 as tagged;

-- memory.seqs_of: elements of a list are text
select seq from memory_record where agent = :agent and seq in (select cast(value as bigint) from json_each(:listed));

-- left.drop_words: words are in the record's own row
update memory_record set words = null where cast(:listed as text) is null;

-- memory.redact_words: words are in the record's own row
update memory_record set words = null where seq = :seq;

-- memory_files.drop: elements of a list are text
update memory_version set body = null, state = 'dropped'
 where seq in (select cast(value as bigint) from json_each(:listed));

-- memory_files.redact: elements of a list are text
update memory_version set body = null, state = 'redacted', bytes = 0, sha256 = ''
 where seq in (select cast(value as bigint) from json_each(:listed));
