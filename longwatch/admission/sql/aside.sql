-- open: what is left of everything that is set aside, in the order of the columns of call.groups
select service, budget, agent, calendar_ms, 0 as places,
       case when money > used_money then money - used_money else 0 end as money,
       case when calls > used_calls then calls - used_calls else 0 end as calls,
       case when tokens > used_tokens then tokens - used_tokens else 0 end as tokens, id
  from aside where ended_ms is null;

-- going: the same of batches that have not ended, whether it was given back already or not
select service, budget, agent, calendar_ms, 0 as places,
       case when money > used_money then money - used_money else 0 end as money,
       case when calls > used_calls then calls - used_calls else 0 end as calls,
       case when tokens > used_tokens then tokens - used_tokens else 0 end as tokens, id
  from aside
 where ended_ms is null and exists (select 1 from task where task.batch = aside.batch and task.ended_ms is null);

-- keep: set it aside, unless the limits that said that there is room are not in force any more
insert into aside (id, batch, service, budget, agent, begun_ms, calendar_ms, money, calls, tokens)
select :id, :batch, :service, :budget, :agent, :now_ms, :calendar_ms, :money, :calls, :tokens
  from fleet where rules = :rules;

-- use: a call that draws on it is charged more or less than before
update aside set used_money = used_money + :money, used_calls = used_calls + :calls, used_tokens = used_tokens + :tokens
 where id = :id;

-- over: batches that have ended and have something set aside
select distinct batch from aside
 where ended_ms is null and not exists (select 1 from task where task.batch = aside.batch and task.ended_ms is null);

-- end: what is left of it is given back
update aside set ended_ms = :now_ms where batch = :batch and ended_ms is null
returning id, batch, service, budget, agent, money, calls, tokens, used_money, used_calls, used_tokens;

-- forget: an engine has lost its memory, and with it what calls drew lately
update aside set ended_ms = :now_ms where ended_ms is null
returning id, batch, service, budget, agent, money, calls, tokens, used_money, used_calls, used_tokens;

-- every: what is set aside, with what the calls that draw on it are charged
select id, batch, service, budget, agent, calendar_ms, ended_ms, money, calls, tokens, used_money, used_calls, used_tokens
  from aside where ended_ms is null order by id;

-- of_batch: the same of one batch, also when it has ended
select id, batch, service, budget, agent, calendar_ms, ended_ms, money, calls, tokens, used_money, used_calls, used_tokens
  from aside where batch = :batch order by id;
