-- add: an admitted call; a repetition under the same id changes nothing, nor does a decision by limits no longer in force
insert into call (id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms,
                  calendar_ms, until_ms, weights, money, calls, tokens, held_money, held_calls,
                  held_tokens, sharing, aside, own_task)
select :id, :key, 'open', :service, :model, :agent, :budget, :owner, :task, :run, :step, :lane, :slot_us, :now_ms,
       :calendar_ms, :now_ms + :hold_ms, :weights, :money, :calls, :tokens,
       :money, :calls, :tokens, :sharing, :aside, :own_task
  from fleet where rules = :rules
on conflict (id) do nothing;

-- by_id: one call
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens,
       sharing, aside
  from call where id = :id;

-- uses: earlier calls with a key, the first :most of them: how many, and when the first that may have been sent was
-- admitted
select count(*) as calls, min(admitted_ms) filter (where state <> 'released') as first_ms
  from (select admitted_ms, state from call
         where key = :key and key <> id and service = :service and id <> :id order by seq limit :most) as earlier;

-- join: the calls with a key that its service remembers know of each other from now on
update call set sharing = 2 where key = :key and key <> id and service = :service and sharing = 1;

-- of_key: the calls with a key that its service remembers, and what each would be charged if it were alone
select id, state, service, model, agent, budget, task, calendar_ms, money, calls, tokens,
       coalesce(told_money, money) as told_money, coalesce(told_tokens, tokens) as told_tokens, aside, away
  from call where key = :key and key <> id and service = :service and sharing > 0 order by seq;

-- groups: what open calls hold, by who is charged; read from one index alone
select service, budget, agent, calendar_ms, count(*) as places, sum(money) as money, sum(calls) as calls,
       sum(tokens) as tokens
  from call where state = 'open'
 group by service, budget, agent, calendar_ms;

-- close: an open call ends, or an ended one is corrected
update call set state = :state, money = :money, calls = :calls, tokens = :tokens, weights = :weights, ended_ms = :now_ms,
       told_money = :told_money, told_tokens = :told_tokens
 where id = :id;

-- recharge: another call with its key bears more or less from now on
update call set told_money = coalesce(told_money, money), told_tokens = coalesce(told_tokens, tokens), money = :money,
       tokens = :tokens
 where id = :id;

-- move_slot: the call leaves later than it was first told
update call set slot_us = :slot_us, weights = :weights where id = :id;

-- beat: the owner is alive: push the end of its open calls' holds on
update call set until_ms = max(until_ms, :now_ms + :hold_ms) where owner = :owner and state = 'open';

-- overdue: open calls whose owner has been silent for too long
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens,
       sharing, aside
  from call where state = 'open' and until_ms <= :now_ms order by until_ms, seq limit :limit;

-- owned: open calls of one owner (`+ 0`: else SQLite would read all calls in their order, and not the few that are open)
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens,
       sharing, aside
  from call where state = 'open' and owner = :owner order by seq + 0 limit :limit;

-- open: every open call, oldest first, of a service if one is named
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where state = 'open' and (:service is null or service = :service) order by seq + 0 limit :limit;

-- of_task: every call of one task, oldest first
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens
  from call where task = :task order by seq limit :limit;

-- doubt: one call, and what it would be charged if no other call with its key bore it
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing,
       version, coalesce(told_money, money) as told_money, coalesce(told_tokens, tokens) as told_tokens, aside
  from call where id = :id;

-- doubts_of_key: the first calls with a key, in the same way
select id, key, state, service, model, agent, budget, task, calendar_ms, until_ms, money, held_money, sharing,
       coalesce(told_money, money) as told_money
  from call where key = :key and key <> id order by seq limit :limit;

-- doubts: calls whose outcome nobody knows, newest first; or that are open
select id, key, state, service, model, agent, budget, task, calendar_ms, until_ms, money, held_money, sharing,
       coalesce(told_money, money) as told_money
  from call where state = :state order by seq desc limit :limit;
