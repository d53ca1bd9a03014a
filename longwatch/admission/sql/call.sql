-- add: an admitted call; a repetition under the same id changes nothing
insert into call (id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms,
                  calendar_ms, until_ms, weights, money, calls, tokens, held_money, held_calls,
                  held_tokens)
values (:id, :key, 'open', :service, :model, :agent, :budget, :owner, :task, :run, :step, :lane, :slot_us, :now_ms,
        :calendar_ms, :now_ms + :hold_ms, :weights, :money, :calls, :tokens,
        :money, :calls, :tokens)
on conflict (id) do nothing;

-- by_id: one call
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where id = :id;

-- first_use: when a key was first used by a call that may have been sent
select admitted_ms from call where key = :key and key <> id and state <> 'released' order by seq limit 1;

-- groups: what open calls hold, by who is charged; read from one index alone
select service, budget, agent, calendar_ms, count(*) as places, sum(money) as money, sum(calls) as calls,
       sum(tokens) as tokens
  from call where state = 'open'
 group by service, budget, agent, calendar_ms;

-- close: an open call ends, or an ended one is corrected
update call set state = :state, money = :money, calls = :calls, tokens = :tokens, weights = :weights, ended_ms = :now_ms
 where id = :id;

-- move_slot: the call leaves later than it was first told
update call set slot_us = :slot_us, weights = :weights where id = :id;

-- beat: the owner is alive: push the end of its open calls' holds on
update call set until_ms = max(until_ms, :now_ms + :hold_ms) where owner = :owner and state = 'open';

-- overdue: open calls whose owner has been silent for too long
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where state = 'open' and until_ms <= :now_ms order by until_ms, seq limit :limit;

-- owned: open calls of one owner
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where state = 'open' and owner = :owner order by seq limit :limit;

-- open: every open call, oldest first, of a service if one is named
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where state = 'open' and (:service is null or service = :service) order by seq limit :limit;

-- of_task: every call of one task, oldest first
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where task = :task order by seq limit :limit;
