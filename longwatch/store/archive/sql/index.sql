-- head: how far the manifest was taken in
select n, chain from head

-- set_head: after taking in
insert into head (one, n, chain) values (1, ?1, ?2)
on conflict (one) do update set n = excluded.n, chain = excluded.chain

-- segments: which are in it
select number, name from segment

-- short: of which something could not be read
select name, unread from segment where unread > 0 order by number

-- add_segment: before its frames
insert into segment (number, name, unread) values (?1, ?2, ?3)

-- add_frame: of a segment; its id comes back
insert into frame (segment, start, size, entries, from_ms, to_ms, kinds) values (?1, ?2, ?3, ?4, ?5, ?6, ?7) returning id

-- add_agents: who is in a frame
insert into frame_agent (agent, frame) select value, ?1 from json_each(?2)

-- add_tasks: whose entries are in a frame
insert into frame_task (task, frame) select value, ?1 from json_each(?2)

-- add_ids: what is in a frame
insert into frame_ids (frame, hashes) values (?1, ?2)

-- add_sum: what an agent's calls came to on a day
insert into day_sum (segment, day, agent, currency, cost_micros, calls, errors) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- forget_agents: of a segment that went
delete from frame_agent where frame in (select id from frame where segment = ?1)

-- forget_tasks: of a segment that went
delete from frame_task where frame in (select id from frame where segment = ?1)

-- forget_ids: of a segment that went
delete from frame_ids where frame in (select id from frame where segment = ?1)

-- forget_sums: of a segment that went
delete from day_sum where segment = ?1

-- forget_frames: of a segment that went, last but one
delete from frame where segment = ?1

-- forget_segment: last
delete from segment where number = ?1

-- frames_of_task: where a task's entries may be, newest first
select segment.name, frame.start, frame.size, frame.from_ms, frame.to_ms, frame.kinds
  from frame_task
  join frame on frame.id = frame_task.frame
  join segment on segment.number = frame.segment
 where frame_task.task = ?1
 order by frame.to_ms desc

-- frames_of_agent: where an agent's entries are, newest first
select segment.name, frame.start, frame.size, frame.from_ms, frame.to_ms, frame.kinds
  from frame_agent
  join frame on frame.id = frame_agent.frame
  join segment on segment.number = frame.segment
 where frame_agent.agent = ?1
 order by frame.to_ms desc

-- frames_of_id: where an entry of this id may be
select segment.name, frame.start, frame.size, frame.from_ms, frame.to_ms, frame.kinds
  from frame_ids
  join frame on frame.id = frame_ids.frame
  join segment on segment.number = frame.segment
 where instr(frame_ids.hashes, ?1) > 0
 order by frame.to_ms desc

-- frames: all of them, newest first
select segment.name, frame.start, frame.size, frame.from_ms, frame.to_ms, frame.kinds
  from frame
  join segment on segment.number = frame.segment
 order by frame.to_ms desc

-- days: which a segment has sums of
select distinct day from day_sum where segment = ?1

-- forget_costs: of days whose sums have changed
delete from day_cost where day in (select value from json_each(?1))

-- add_costs: of days whose sums have changed, over all segments
insert into day_cost (day, costs)
select day, json_group_array(json_object(
         'day', date(day * 86400, 'unixepoch'), 'agent', agent, 'currency', currency,
         'cost_micros', cost_micros, 'calls', calls, 'errors', errors))
  from (select day, agent, currency, sum(cost_micros) as cost_micros, sum(calls) as calls, sum(errors) as errors
          from day_sum
         where day in (select value from json_each(?1))
         group by day, agent, currency
         order by day, agent, currency)
 group by day

-- costs: by day
select costs from day_cost where day >= ?1 and day <= ?2 order by day

-- add_places: between which of its places an agent's records are in a frame
insert into frame_places (agent, first_place, frame, last_place) values (?1, ?2, ?3, ?4)

-- forget_places: of a segment that went
delete from frame_places where frame in (select id from frame where segment = ?1)

-- frames_of_places: where an agent's records between two places may be, the segment that was added last at the end
select segment.name, frame.start, frame.size, frame.from_ms, frame.to_ms, frame.kinds
  from frame_places
  join frame on frame.id = frame_places.frame
  join segment on segment.number = frame.segment
 where frame_places.agent = ?1 and frame_places.first_place <= ?3 and frame_places.last_place >= ?2
 order by segment.number, frame.start

-- add_bits: what a frame cannot hold
insert into frame_bits (frame, grams, words) values (?1, ?2, ?3)

-- forget_bits: of a segment that went
delete from frame_bits where frame in (select id from frame where segment = ?1)

-- grams: of a segment's frames
select frame.start, frame_bits.grams
  from frame join frame_bits on frame_bits.frame = frame.id
 where frame.segment = ?1

-- words: of frames with an agent's records
select segment.name, frame.start, frame.size, frame.from_ms, frame.to_ms, frame.kinds, frame.entries, frame_bits.words,
       segment.number
  from frame_places
  join frame on frame.id = frame_places.frame
  join frame_bits on frame_bits.frame = frame.id
  join segment on segment.number = frame.segment
 where frame_places.agent = ?1
