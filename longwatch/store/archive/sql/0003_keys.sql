-- Where a task is by its key: a hash among those of ids. What was taken in before knows of no keys, and is taken in anew.
delete from head;
delete from segment;
delete from frame;
delete from frame_agent;
delete from frame_task;
delete from frame_ids;
delete from day_sum;
delete from day_cost;
delete from frame_places;
delete from frame_bits;
