-- by_id: whether the state decided about a call while an engine was away
select away from call where id = :id;

-- mark: it did
update call set away = 1 where id = :id;

-- charge: what is added to every window that holds the call's instant, and the engine is not told of; may be negative
update spend
   set away = away + case dimension when 'money' then :money when 'tokens' then :tokens else :calls end
 where purse in ('fleet', 'agent:' || :agent, 'service:' || :service, 'budget:' || :budget)
   and ends_ms > :calendar_ms and starts_ms <= :calendar_ms;

-- groups: what open calls hold that the state decided about, by who is charged; read from one index alone
select service, budget, agent, calendar_ms, count(*) as places, sum(money) as money, sum(calls) as calls,
       sum(tokens) as tokens
  from call where state = 'open' and away = 1
 group by service, budget, agent, calendar_ms;

-- owned: open calls of one owner that the state decided about
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens,
       sharing, aside
  from call where state = 'open' and away = 1 and owner = :owner order by seq + 0 limit :limit;

-- overdue: open calls that the state decided about, whose owner has been silent for too long
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens,
       sharing, aside
  from call where state = 'open' and away = 1 and until_ms <= :now_ms order by until_ms, seq limit :limit;

-- windows: what the engine was allotted in the windows that hold an instant, what was spent in them, and how much of that
-- it has not been told of
select a.purse, a.ends_ms, a.dimension, a.per, a.amount, s.settled, s.away
  from allotment a
  join spend s on s.purse = a.purse and s.ends_ms = a.ends_ms and s.dimension = a.dimension and s.per = a.per
 where a.ends_ms > :at_ms and a.starts_ms <= :at_ms;

-- standing: what a window has spent that the engine has not been told of
select away from spend where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- cut: a process goes by the share
insert into cut (process, owner, agent, since_ms, seen_ms, reason)
values (:process, :owner, :agent, :now_ms, :now_ms, :reason)
on conflict (process) do update set seen_ms = excluded.seen_ms, reason = excluded.reason;

-- back: it does not any more
delete from cut where process = :process returning since_ms;

-- buried: nor does whoever is dead
delete from cut where owner = :owner;

-- forgotten: nor does whoever has been silent for so long
delete from cut where seen_ms < :now_ms - :silent_ms;

-- every: processes that go by the share
select process, owner, agent, since_ms, seen_ms, reason from cut where seen_ms >= :now_ms - :silent_ms order by since_ms;
