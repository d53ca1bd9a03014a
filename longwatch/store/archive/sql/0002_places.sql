-- Where a record is by its place. What was taken in before knows of no places, and is taken in anew.
create table frame_places (
  agent text not null,
  first_place integer not null,
  frame integer not null,
  last_place integer not null,
  primary key (agent, first_place, frame)
) without rowid;

-- What a frame cannot hold: bits of its runs of three letters, and of the words of its records, see grams.py.
create table frame_bits (
  frame integer primary key,
  grams blob not null,
  words blob not null
);

delete from head;
delete from segment;
delete from frame;
delete from frame_agent;
delete from frame_task;
delete from frame_ids;
delete from day_sum;
delete from day_cost;
