-- keep: a task is submitted with a cap
insert into task_cap (task, dimension, amount) values (:task, :dimension, :amount);

-- of_task: the caps of one task
select dimension, amount from task_cap where task = :task order by dimension;

-- move: another amount from now on
update task_cap set amount = :amount where task = :task and dimension = :dimension;

-- held: what open calls of one task hold, read from their index alone
select count(*) as places, coalesce(sum(money), 0) as money, coalesce(sum(calls), 0) as calls,
       coalesce(sum(tokens), 0) as tokens
  from call where state = 'open' and own_task = :task;

-- open: the window of a task's purse, with what its calls have cost; it is looked at for the first time, or again
insert into spend (purse, ends_ms, dimension, per, starts_ms, settled)
select :purse, :ends_ms, :dimension, 'total', 0,
       coalesce(sum(case :dimension when 'money' then money when 'tokens' then tokens else calls end), 0)
  from call where task = :task and state in ('settled', 'unknown')
on conflict (purse, ends_ms, dimension, per) do nothing
returning settled;

-- standing: what a task's purse has spent, by dimension; nothing, while its window is not open
select dimension, settled from spend where purse = :purse;

-- spent: what the ended calls of a task have cost
select coalesce(sum(money), 0) as money, coalesce(sum(calls), 0) as calls, coalesce(sum(tokens), 0) as tokens
  from call where task = :task and state in ('settled', 'unknown');

-- over: purses of tasks that have ended, where what they have spent is in their calls and can be found there again: not what
-- an engine lost the memory of, nor what a state knew that was replaced by an older one
select distinct purse from spend
 where purse >= 'task:' and purse < 'task;'
   and not exists (select 1 from task where task.id = substr(spend.purse, 6) and task.ended_ms is null)
   and not exists (
     select 1 from spend as own
      where own.purse = spend.purse
        and own.settled <> (
          select coalesce(sum(case own.dimension when 'money' then money when 'tokens' then tokens else calls end), 0)
            from call where call.task = substr(own.purse, 6) and call.state in ('settled', 'unknown')))
 order by purse limit :limit;

-- close: the window is opened again when it is needed
delete from spend where purse = :purse;

-- return: an engine may give out nothing more of it
delete from allotment where purse = :purse;

-- lower: an engine may let spent and held together reach no more than the cap
update allotment set amount = :amount where purse = :purse and dimension = :dimension and amount > :amount;

-- allotted: what an engine may let spent and held together reach, by dimension
select dimension, amount from allotment where purse = :purse;
