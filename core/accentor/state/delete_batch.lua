-- KEYS: record, batches, expiries. ARGV: id, 1 if its results go too. Nobody sees it any more; what it has is removed afterwards.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local field = redis.call('HMGET', KEYS[1], 'state', 'deleted_at')
if field[2] then return no_batch(KEYS[1]) end
if not BATCH_ENDED[field[1]] then
  return redis.error_reply('ILLEGAL batch ' .. ARGV[1] .. ' is ' .. field[1] .. ': cancel it before it is deleted')
end
redis.call('HSET', KEYS[1], 'deleted_at', stamp(now()), 'delete_results', ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
