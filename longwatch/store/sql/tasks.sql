-- by_id: one task
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms
  from task where id = :id;

-- by_key: the task that a key was given to
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms
  from task where key = :key;

-- insert: a new task
insert into task (id, kind, args, state, key, batch, agent, budget, lane, ready_ms, submitted_ms, retries, crash_limit,
                  timeout_ms, epoch)
values (:id, :kind, :args, :state, :key, :batch, :agent, :budget, :lane, :ready_ms, :now_ms, :retries, :crash_limit,
        :timeout_ms, (select epoch from fleet));

-- insert_need: the task may not start before the needed one has ended; met at once when it ended well already
insert into need (task, needs, fate, met) values (:task, :needs, :fate, :met) on conflict do nothing;

-- due: whether there are scheduled tasks whose instant has come
select 1 as due from task where state = 'scheduled' and ready_ms <= :now_ms limit 1;

-- come_due: scheduled tasks whose instant has come, by whoever has found that there are some
update task set state = 'ready' where state = 'scheduled' and ready_ms <= :now_ms;

-- next_due: the instant of the earliest scheduled task
select min(ready_ms) as at_ms from task where state = 'scheduled';

-- ready_of_kind: the next ones to claim, of one kind
select lane, seq from task where state = 'ready' and kind = :kind order by lane, seq limit :limit;

-- claim: the worker's from now on, until it stops beating; fences in the order of the list, from the first on
update task set state = 'claimed', owner = :owner, fence = :fence + listed.key, until_ms = :now_ms + :lease_ms
  from json_each(:listed) as listed
 where task.seq = listed.value and task.state = 'ready'
returning id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
          crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms,
          exists (select 1 from step where step.task = task.id) as begun,
          exists (select 1 from need where need.needs = task.id and need.met = 0) as needed,
       (select coalesce(sum(case dimension when 'money' then 1 when 'calls' then 2 else 4 end), 0)
          from task_cap where task_cap.task = task.id) as capped;

-- start: the run begins; the guard is the fence
update task set state = 'running', until_ms = :now_ms + :lease_ms
 where seq = :seq and fence = :fence and state = 'claimed' and until_ms > :now_ms;

-- insert_run: one attempt
insert into run (id, task, fence, owner, agent, started_ms) values (:id, :task, :fence, :owner, :agent, :now_ms);

-- end_run: how the attempt ended, told once
update run set ended_ms = :now_ms, outcome = :outcome, error = :error where fence = :fence and ended_ms is null;

-- run_by_fence: the attempt that a fence was given to
select id, task, outcome from run where fence = :fence;

-- run_by_id: whether a run of this id was ever started
select id from run where id = :id;

-- tally: where the tasks stand that these workers ran, under fences given after one
select state, count(*) as tasks from task
 where id in (select task from run where fence > :after and owner in (select value from json_each(:owners)))
 group by state;

-- held: the task, if this fence still holds it
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms
  from task where seq = :seq and fence = :fence and state = 'running' and until_ms > :now_ms;

-- finish: a run ends well; the guard is its fence, and that its lease still runs
update task set state = 'done', result = :result, error = null, cause = null, ended_ms = :now_ms, owner = null,
                until_ms = null
 where seq = :seq and fence = :fence and state = 'running' and until_ms > :now_ms;

-- move: the task's next state; the guard is the state it was read in, in this transaction
update task set state = :state, failures = :failures, crashes = :crashes, ready_ms = :ready_ms, result = :result,
                error = :error, cause = :cause, ended_ms = :ended_ms, owner = null, until_ms = null
 where seq = :seq and state = :was;

-- renew_epoch: a person says that it may run again, whatever it did before a restore
update task set epoch = (select epoch from fleet) where id = :id;

-- beat: the runs that the owner knows of go on; what has run out is not revived
update task set until_ms = :until_ms
 where owner = :owner and state in ('claimed', 'running') and until_ms > :now_ms
   and fence in (select value from json_each(:fences))
returning fence;

-- expired: tasks whose worker stopped beating
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms
  from task where state in ('claimed', 'running') and until_ms <= :now_ms order by until_ms, seq limit :limit;

-- owned: everything that a worker holds
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms,
       exists (select 1 from step where step.task = task.id) as begun,
       exists (select 1 from need where need.needs = task.id and need.met = 0) as needed,
       (select coalesce(sum(case dimension when 'money' then 1 when 'calls' then 2 else 4 end), 0)
          from task_cap where task_cap.task = task.id) as capped
  from task
 where state in ('claimed', 'running') and until_ms >= 0 and owner = :owner;

-- open_once: an effect begun and never repeated, without an outcome
select name from step where task = :task and sort = 'once' and state = 'started' limit 1;

-- predates_restore: submitted before the state was last restored: what it did since the backup is not known here
select id from task where id = :id and epoch < (select epoch from fleet);

-- dependants: who waits for this task and has not been told how it ended
select need.task, need.fate, task.state, task.cause
  from need join task on task.id = need.task
 where need.needs = :needs and need.met = 0
 order by task.seq;

-- meet: the need is met
update need set met = 1 where task = :task and needs = :needs;

-- open_need: something that the task still waits for
select needs from need where task = :task and met = 0 limit 1;

-- bad_need: something that the task still needs and that has not ended well, or has left the state: it cannot run
select needs from need left join task on task.id = need.needs
 where need.task = :task and need.met = 0 and coalesce(task.state, 'failed') in ('failed', 'cancelled') limit 1;

-- step: one step of a task
select name, sort, state, result, started_ms, stored_ms, fence from step where task = :task and name = :name;

-- begin_step: written down before it starts
insert into step (task, name, sort, state, started_ms, fence) values (:task, :name, :sort, 'started', :now_ms, :fence);

-- store_step: its result, once, by the run that holds the task
insert into step (task, name, sort, state, result, started_ms, stored_ms, fence)
select id, :name, :sort, 'stored', :result, :now_ms, :now_ms, fence from task
 where seq = :seq and fence = :fence and state = 'running' and until_ms > :now_ms
on conflict (task, name) do update set state = 'stored', result = excluded.result, stored_ms = excluded.stored_ms
 where step.state = 'started';

-- forget_step: begun, and proven not to have taken place
delete from step where task = :task and name = :name and state = 'started';

-- forget_begun: a person has looked, and says that whatever was begun may be begun again
delete from step where task = :task and state = 'started';

-- unfinished_of: whether anything of these kinds is ready, scheduled within a time, or held by somebody
select exists (select 1 from task where state = 'ready' and kind in (select value from json_each(:kinds)))
    or exists (select 1 from task where state = 'scheduled' and ready_ms <= :before_ms and kind in (select value from json_each(:kinds)))
    or exists (select 1 from task where state in ('claimed', 'running') and kind in (select value from json_each(:kinds)))
    as busy;

-- batch_by_name: a batch of this name
select id, name, digest, submitted_ms from batch where name = :name;

-- insert_batch: a new batch
insert into batch (id, name, digest, submitted_ms) values (:id, :name, :digest, :now_ms);

-- batch_tasks: the tasks of a batch, as submitted
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms
  from task where batch = :batch order by seq;

-- know_kind: a handler of this name exists in the fleet
insert into kind (name, module, manner) values (:name, :module, :manner)
on conflict (name) do update set module = excluded.module, manner = excluded.manner
 where kind.module <> excluded.module or kind.manner <> excluded.manner;

-- kinds: every kind of task that ever had a handler
select name, module, manner from kind order by name;

-- enrol: a worker process
insert into worker (owner, agent, pid, start_ticks, boot_id, name, since_ms, beat_ms, schema)
values (:owner, :agent, :pid, :start_ticks, :boot_id, :name, :now_ms, :now_ms, :schema)
on conflict (owner) do nothing;

-- named_worker: another one of this name
select pid, agent from worker where name = :name and owner <> :owner limit 1;

-- beat_worker: it lives
update worker set beat_ms = :now_ms where owner = :owner;

-- dismiss: it has gone
delete from worker where owner = :owner;

-- workers: every worker process that has not been dismissed
select owner, agent, pid, start_ticks, boot_id, name, since_ms, beat_ms, schema from worker order by since_ms, owner;

-- older_workers: of code that does not know a migration, by the calendar: before a fleet is entered its own clock is not known
select pid, agent, schema from worker where schema < :schema and beat_ms > :wall_ms - :silent_ms order by since_ms, owner;

-- end_all_leases: the machine started anew, or the state was restored: nobody holds anything
update task set until_ms = 0 where state in ('claimed', 'running');
