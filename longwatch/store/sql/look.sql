-- counts: how many tasks stand where
with going (state, tasks) as (
  select state, count(*) from task where state in ('waiting', 'failed', 'cancelled', 'unknown') group by state
  union all select 'scheduled', count(*) from task where state = 'scheduled'
  union all select 'ready', count(*) from task where state = 'ready'
  union all select state, count(*) from task where state in ('claimed', 'running') group by state
), counted (state, tasks) as (
  select state, tasks from going
  union all select 'done', (select count(*) from task) - (select sum(tasks) from going)
)
select state, tasks from counted where tasks > 0 order by state;

-- ready_by_kind: what waits for a worker, the most first
select kind, count(*) as tasks, min(ready_ms) as since_ms from task where state = 'ready' group by kind order by tasks desc limit :limit;

-- tasks: newest first, by whichever filters are given; `before` is the place a page ended at
select id, kind, args, state, key, batch, agent, budget, lane, seq, ready_ms, submitted_ms, ended_ms, retries, failures,
       crashes, crash_limit, timeout_ms, result, error, cause, owner, fence, until_ms
  from task
 where (:state is null or state = :state) and (:batch is null or batch = :batch)
   and (:kind is null or kind = :kind) and (:agent is null or agent = :agent)
   and (:before is null or seq < :before)
 order by seq desc limit :limit;

-- running: the runs that have gone on longest
select run.id, run.task, run.agent, run.started_ms, task.kind, run.owner
  from task join run on run.task = task.id and run.fence = task.fence
 where task.state = 'running' and run.ended_ms is null
 order by run.started_ms limit :limit;

-- run_by_id: one attempt
select id, task, fence, owner, agent, started_ms, ended_ms, outcome, error from run where id = :id;

-- runs_of: the newest attempts at a task
select id, task, fence, owner, agent, started_ms, ended_ms, outcome, error
  from run
 where id in (select subject from record where task = :task and kind = 'run.started')
 order by fence desc limit :limit;

-- steps_of: the steps of a task, as they were begun
select name, sort, state, result, started_ms, stored_ms, fence from step where task = :task order by started_ms, name limit :limit;

-- needs_of: what a task needs, and how that stands
select need.needs as id, need.fate, need.met, task.state, task.kind
  from need join task on task.id = need.needs where need.task = :task order by task.seq limit :limit;

-- needed_by: who waits, or waited, for a task
select need.task as id, need.fate, need.met, task.state, task.kind
  from need join task on task.id = need.task where need.needs = :task order by task.seq limit :limit;

-- batches: newest first
select id, name, submitted_ms from batch order by submitted_ms desc, id desc limit :limit;

-- batch: by its id or its name
select id, name, submitted_ms from batch where id = :wanted or name = :wanted;

-- batch_counts: where the tasks of a batch stand
select state, count(*) as tasks from task where batch = :batch group by state order by state;

-- silent_of: tasks of a batch that have not ended
select id from task where batch = :batch and state not in ('done', 'failed', 'cancelled', 'unknown') order by seq desc limit :limit;

-- lives: the clocks, the engine and the fleet
select name, created_ms, epoch, fence, boot_id, sqlite_version() as engine, :now_ms as steady_ms, :wall_ms as calendar_ms
  from fleet;

-- paid: what ended calls of the last while have cost, by who is charged; archived ones by the day
select budget, agent, service, sum(places) as places, sum(money) as money, sum(calls) as calls, sum(tokens) as tokens
  from (select budget, agent, service, 1 as places, money, calls, tokens
          from call where state in ('settled', 'unknown') and calendar_ms >= :since_ms
         union all
        select nullif(budget, '') as budget, agent, service, places, money, calls, tokens
          from retired_cost where starts_ms >= :since_ms) as made
 group by budget, agent, service order by money desc limit :limit;

-- held: what open calls hold, by who is charged
select budget, agent, service, count(*) as places, sum(money) as money, sum(calls) as calls, sum(tokens) as tokens
  from call where state = 'open' group by budget, agent, service order by money desc limit :limit;

-- lately: how long the newest calls took from their slots on, on average
select service, cast(sum(took_ms) / count(*) as bigint) as took_ms
  from (select service, ended_ms - slot_us / 1000 as took_ms
          from call where state = 'settled' order by seq desc limit :limit) as ended
 where took_ms > 0 group by service;
