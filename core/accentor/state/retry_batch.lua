-- KEYS: record, ring, expiries. ARGV: id. The failed jobs of a batch that has ended are queued again, without their deadline.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local batch = batch_of(ARGV[1])
local field = redis.call('HMGET', batch.record, 'state', 'failed', 'deleted_at')
if field[3] then return no_batch(KEYS[1]) end
if not BATCH_ENDED[field[1]] then
  return redis.error_reply('ILLEGAL batch ' .. ARGV[1] .. ' is ' .. field[1] .. ': only a batch that has ended can be retried')
end
if tonumber(field[2]) == 0 then
  return redis.error_reply('ILLEGAL batch ' .. ARGV[1] .. ' is ' .. field[1] .. ': it has no failed jobs to retry')
end
local states = string.gsub(redis.call('GET', batch.states), 'f', 'q')
redis.call('SET', batch.states, states)
redis.call('DEL', batch.failures)
redis.call('HINCRBY', batch.record, 'queued', field[2])
redis.call('HINCRBY', batch.record, 'revision', 1)
redis.call('HSET', batch.record, 'failed', 0, 'state', 'running', 'cursor', 0)
redis.call('HDEL', batch.record, 'finished_at', 'deadline_at', 'deadline_passed_at', 'expires_at')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('RPUSH', KEYS[2], ARGV[1])
announce(batch, now())
return tonumber(field[2])
