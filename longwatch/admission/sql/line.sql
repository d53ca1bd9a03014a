-- stand: take a place at the end of a lane; a repetition keeps the one it has
insert into ticket (id, line, lane, owner, agent, task, since_ms)
values (:id, :line, :lane, :owner, :agent, :task, :now_ms)
on conflict (id) do nothing;

-- seen: the owner has looked
insert into waiter (owner, line, seen_ms) values (:owner, :line, :now_ms)
on conflict (owner, line) do update set seen_ms = excluded.seen_ms;

-- heads: of each lane the first :most places of those who have looked lately
select lane, id from (
  select seq, lane, id from (
    select t.seq, t.lane, t.id from ticket t
     where t.line = :line and t.lane = 'urgent'
       and exists (select 1 from waiter w where w.owner = t.owner and w.line = t.line
                      and w.seen_ms > :now_ms - :silent_ms)
     order by t.seq limit :most) as urgent_heads
  union all
  select seq, lane, id from (
    select t.seq, t.lane, t.id from ticket t
     where t.line = :line and t.lane = 'normal'
       and exists (select 1 from waiter w where w.owner = t.owner and w.line = t.line
                      and w.seen_ms > :now_ms - :silent_ms)
     order by t.seq limit :most) as normal_heads
  union all
  select seq, lane, id from (
    select t.seq, t.lane, t.id from ticket t
     where t.line = :line and t.lane = 'batch'
       and exists (select 1 from waiter w where w.owner = t.owner and w.line = t.line
                      and w.seen_ms > :now_ms - :silent_ms)
     order by t.seq limit :most) as batch_heads
) as heads order by lane, seq;

-- given: the passes of a line's lanes
select lane, given from lane where line = :line;

-- lengths: how many of those who have looked lately wait in each lane
select lane, count(*) as waiting
  from ticket t
 where line = :line
   and exists (select 1 from waiter w where w.owner = t.owner and w.line = t.line and w.seen_ms > :now_ms - :silent_ms)
 group by lane;

-- waited_in: the lanes in which anybody waits
select lane from (
  select 'urgent' as lane where exists (select 1 from ticket where line = :line and lane = 'urgent')
  union all
  select 'normal' where exists (select 1 from ticket where line = :line and lane = 'normal')
  union all
  select 'batch' where exists (select 1 from ticket where line = :line and lane = 'batch')
) as lanes;

-- give: the lane's pass from now on
insert into lane (line, lane, given) values (:line, :lane, :given)
on conflict (line, lane) do update set given = excluded.given;

-- grown: the lane is given a slot, for a call that stands in it
update lane set given = given + :stride
 where line = :line and lane = :lane and exists (select 1 from ticket where id = :id);

-- ahead: where a ticket stands, and how many of its lane are before it
select t.line, t.lane, (select count(*) from ticket o where o.line = t.line and o.lane = t.lane and o.seq < t.seq) as ahead
  from ticket t where t.id = :id;

-- placed: how many of its lane are before each of these
select id, ahead
  from (select id, row_number() over (partition by lane order by seq) - 1 as ahead from ticket where line = :line) as places
 where id in (select value from json_each(:ids));

-- leave: give up a place
delete from ticket where id = :id;

-- leave_all: those of an owner that is dead
delete from ticket where owner = :owner;

-- clear: places of those who have been silent for long
delete from ticket where line = :line
   and owner in (select owner from waiter where line = :line and seen_ms <= :now_ms - :gone_ms);

-- clear_seen: and when they looked last
delete from waiter where line = :line and seen_ms <= :now_ms - :gone_ms;

-- every: how many wait, by line and lane, and since when
select line, lane, count(*) as waiting, min(since_ms) as since_ms from ticket group by line, lane order by line, lane;
