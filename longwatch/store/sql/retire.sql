-- take: nobody else archives now, or he who does is late
update archivist set holder = :holder, fence = fence + 1, until_ms = :now_ms + :lease_ms
 where until_ms <= :now_ms or holder = :holder
returning fence;

-- renew: the one who has it goes on
update archivist set until_ms = :now_ms + :lease_ms where fence = :fence and until_ms > :now_ms;

-- give_back: somebody else may
update archivist set until_ms = 0 where fence = :fence;

-- close: a round has ended
update archivist set closed_ms = :now_ms where fence = :fence;

-- standing: who archives, and when a round ended last
select holder, fence, until_ms, closed_ms, number from archivist;

-- failing: why a round failed, and when one ended well last
select at_ms, data, (select closed_ms from archivist) as closed_ms from record
 where subject = 'archive' and (task is null or (subject <> task and kind <> 'run.started')) and kind = 'archive.failed'
 order by seq desc limit 1;

-- number: the next source's
update archivist set number = number + 1 where fence = :fence returning number, holder, (select epoch from fleet) as epoch;

-- begin: written down before anything is written in the archive
insert into retiring (source, sort, segment, begun_ms) values (:source, :sort, null, :now_ms);

-- listed: the segment is whole, verified and listed: its rows may be dropped
update retiring set segment = :segment where source = :source;

-- finish: nothing is left to be done about it
delete from retiring where source = :source;

-- begun: what was begun and not finished, oldest first
select source, sort, segment, begun_ms from retiring order by begun_ms, source;

-- held: batches of which a task has not ended, or is too young
select distinct batch from task
 where batch is not null and (ended_ms is null or state = 'unknown' or ended_ms > :now_ms - cast(:age_ms as bigint));

-- tasks: ended ones that nothing hot depends on: nobody waits for them to end well, no call of theirs is open or in doubt or
-- may be repeated by somebody else, their purse is closed, the whole of their batch has ended
select seq, id, kind, args, state, key, batch, agent, budget, lane, ready_ms, submitted_ms, ended_ms, retries, failures, crashes,
       crash_limit, timeout_ms, result, error, cause, fence, epoch
  from task
 where seq > :after and seq <= :upto and seq < (select max(seq) from task)
   and state in ('done', 'failed', 'cancelled') and ended_ms <= :now_ms - cast(:age_ms as bigint)
   and not exists (select 1 from need where need.needs = task.id and need.met = 0)
   and not exists (
     select 1 from call
      where call.task = task.id
        and (call.state in ('open', 'unknown') or (call.sharing > 0 and call.key not like '%' || task.id || '%')))
   and not exists (select 1 from spend where purse = 'task:' || task.id)
   and not exists (
     select 1 from restored
      where restored.task = task.id and (restored.until_ms > :now_ms or cast(:alone as bigint) = 0))
   and (batch is null or batch not in (select value from json_each(:held)))
 order by seq limit :limit;

-- runs: of these tasks; runs are found by what the journal tells, which leaves later than its task
select id, task, fence, owner, agent, started_ms, ended_ms, outcome, error from run
 where id in (select subject from record where task in (select value from json_each(:ids)) and kind = 'run.started')
 order by fence;

-- steps: of these tasks
select task, name, sort, state, result, started_ms, stored_ms, fence from step
 where task in (select value from json_each(:ids)) order by task, started_ms, name;

-- needs: of these tasks
select task, needs, fate, met from need where task in (select value from json_each(:ids)) order by task, needs;

-- caps: of these tasks
select task, dimension, amount from task_cap where task in (select value from json_each(:ids)) order by task, dimension;

-- batches: what these are called
select id, name, digest, submitted_ms from batch where id in (select value from json_each(:ids));

-- calls_of: of these tasks
select seq, id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing, told_money, told_tokens,
       version, away, aside, own_task
  from call where task in (select value from json_each(:ids)) order by seq;

-- calls: ended ones of no hot task; one with a key that others may use too stays, because it tells that the key was used
select seq, id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing, told_money, told_tokens,
       version, away, aside, own_task
  from call
 where seq > :after and seq <= :upto and seq < (select max(seq) from call)
   and state in ('settled', 'released') and ended_ms <= :now_ms - cast(:age_ms as bigint) and sharing = 0
   and (task is null or not exists (select 1 from task where task.id = call.task))
 order by seq limit :limit;

-- spends: windows that have ended, in the order of their keys
select purse, ends_ms, dimension, per, starts_ms, settled, warned from spend
 where per <> 'total' and ends_ms <= (select at_ms from calendar) - cast(:age_ms as bigint)
   and (purse, ends_ms, dimension, per) > (:after_purse, cast(:after_ends_ms as bigint), :after_dimension, :after_per)
 order by purse, ends_ms, dimension, per limit :limit;

-- journal: entries of no hot task, as far as memory has read them
select seq, at_ms, kind, subject, agent, task, data from record
 where seq > :after and seq <= :upto and seq < (select max(seq) from record)
   and at_ms <= :wall_ms - cast(:age_ms as bigint)
   and (task is null or not exists (select 1 from task where task.id = record.task))
 order by seq limit :limit;

-- drop_tasks: their copies are verified
delete from task where id in (select value from json_each(:ids));

-- drop_runs: before the journal's entries that they are found by
delete from run where id in (select value from json_each(:ids));

-- drop_steps: of tasks that go
delete from step where task in (select value from json_each(:ids));

-- drop_needs: of tasks that go
delete from need where task in (select value from json_each(:ids));

-- drop_caps: of tasks that go
delete from task_cap where task in (select value from json_each(:ids));

-- drop_batches: those whose last task has gone
delete from batch where id in (select value from json_each(:ids))
   and not exists (select 1 from task where task.batch = batch.id);

-- drop_asides: what was set aside for batches that are gone
delete from aside where batch in (select value from json_each(:ids)) and ended_ms is not null
   and not exists (select 1 from task where task.batch = aside.batch);

-- drop_calls: their copies are verified
delete from call where id in (select value from json_each(:ids));

-- drop_spend: a window that has ended
delete from spend where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- drop_allotment: nothing is given out of it any more
delete from allotment where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- drop_journal: their copies are verified
delete from record where seq in (select cast(value as bigint) from json_each(:listed));

-- keep_key: it stays taken
insert into retired_key (short, ended_day) values (:short, :ended_day)
on conflict (short) do update set ended_day = excluded.ended_day;

-- key: whether it is taken
select ended_day from retired_key where short = :short;

-- forget_keys: of what ended before that day
delete from retired_key where ended_day < :ended_day;

-- free_key: its task is back
delete from retired_key where short = :short;

-- keep_cost: what a call that goes has cost; less than nothing when it comes back
insert into retired_cost (starts_ms, ends_ms, service, model, budget, agent, kind, away, places, money, calls, tokens)
values (:starts_ms, :ends_ms, :service, :model, :budget, :agent, :kind, :away, :places, :money, :calls, :tokens)
on conflict (starts_ms, ends_ms, service, model, budget, agent, kind, away) do update
   set places = retired_cost.places + excluded.places, money = retired_cost.money + excluded.money,
       calls = retired_cost.calls + excluded.calls, tokens = retired_cost.tokens + excluded.tokens;

-- hours: what calls of days that are over have cost, by the hour or the minute
select starts_ms, ends_ms, service, model, budget, agent, kind, away, places, money, calls, tokens
  from retired_cost where ends_ms - starts_ms < 7200000 and ends_ms <= :before_ms limit :limit;

-- drop_hour: it is part of its day now
delete from retired_cost
 where starts_ms = :starts_ms and ends_ms = :ends_ms and service = :service and model = :model and budget = :budget
   and agent = :agent and kind = :kind and away = :away;

-- name_kinds: of what was earned, written by code that did not say it
update earning set kind = (select task.kind from task where task.id = earning.task) where kind is null and task is not null;

-- at_place: whose place it is
select id from task where seq = :seq;

-- restore_task: as it was, in its own place
insert into task (seq, id, kind, args, state, key, batch, agent, budget, lane, ready_ms, submitted_ms, ended_ms, retries,
                  failures, crashes, crash_limit, timeout_ms, result, error, cause, fence, epoch)
values (:seq, :id, :kind, :args, :state, :key, :batch, :agent, :budget, :lane, :ready_ms, :submitted_ms, :ended_ms, :retries,
        :failures, :crashes, :crash_limit, :timeout_ms, :result, :error, :cause, :fence, :epoch)
on conflict do nothing;

-- restore_run: as it was
insert into run (fence, id, task, owner, agent, started_ms, ended_ms, outcome, error)
values (:fence, :id, :task, :owner, :agent, :started_ms, :ended_ms, :outcome, :error)
on conflict do nothing;

-- restore_step: as it was
insert into step (task, name, sort, state, result, started_ms, stored_ms, fence)
values (:task, :name, :sort, :state, :result, :started_ms, :stored_ms, :fence)
on conflict do nothing;

-- restore_need: as it was
insert into need (task, needs, fate, met) values (:task, :needs, :fate, :met) on conflict do nothing;

-- restore_cap: as it was
insert into task_cap (task, dimension, amount) values (:task, :dimension, :amount) on conflict do nothing;

-- restore_batch: as it was
insert into batch (id, name, digest, submitted_ms) values (:id, :name, :digest, :submitted_ms) on conflict do nothing;

-- restore_call: as it was, in its own place: calls are in the order of the budgets' calendar
insert into call (seq, id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms,
                  calendar_ms, until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing,
                  told_money, told_tokens, version, away, aside, own_task)
values (:seq, :id, :key, :state, :service, :model, :agent, :budget, :owner, :task, :run, :step, :lane, :slot_us, :admitted_ms,
        :calendar_ms, :until_ms, :ended_ms, :weights, :money, :calls, :tokens, :held_money, :held_calls, :held_tokens, :sharing,
        :told_money, :told_tokens, :version, :away, :aside, :own_task)
on conflict do nothing;

-- restore_entry: as it was, in its own place
insert into record (seq, at_ms, kind, subject, agent, task, data)
values (:seq, :at_ms, :kind, :subject, :agent, :task, :data)
on conflict do nothing;

-- entry_at: what the journal has in this place
select at_ms, kind, subject from record where seq = :seq;

-- keep_restored: it stays for a while
insert into restored (task, segment, until_ms) values (:task, :segment, :now_ms + :keep_ms)
on conflict (task, segment) do update set until_ms = excluded.until_ms;

-- over: segments of which tasks were brought back, and have stayed for long enough
select distinct segment from restored where until_ms <= :now_ms order by segment;

-- forget_restored: what has changed since is archived anew
delete from restored where segment = :segment and until_ms <= :now_ms;

-- hot: how many rows there are, and how old the oldest entry is
select (select count(*) from task) as tasks, (select count(*) from record) as entries, (select count(*) from call) as calls,
       (select min(at_ms) from record where seq = (select min(seq) from record)) as oldest_ms;
