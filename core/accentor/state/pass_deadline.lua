-- KEYS: record, ring, deadlines. ARGV: id. Its deadline is over: jobs that have not begun fail; those that run go on.
redis.call('ZREM', KEYS[3], ARGV[1])
local batch = batch_of(ARGV[1])
local field = redis.call('HMGET', batch.record, 'state', 'total', 'queued')
if field[1] ~= 'queued' and field[1] ~= 'running' then return 0 end
redis.call('LREM', KEYS[2], 0, ARGV[1])
end_queued(batch, tonumber(field[2]), 'f', 'deadline')
redis.call('HSET', batch.record, 'deadline_passed_at', stamp(now()))
settle(batch)
return tonumber(field[3])
