-- KEYS: record, ring. ARGV: id. Queued jobs are canceled at once, running ones when their worker sees it.
if redis.call('EXISTS', KEYS[1]) == 0 then return no_batch(KEYS[1]) end
local batch = batch_of(ARGV[1])
local field = redis.call('HMGET', batch.record, 'state', 'total')
if field[1] == 'canceling' or field[1] == 'canceled' then return 0 end
if BATCH_ENDED[field[1]] then
  return redis.error_reply('ILLEGAL batch ' .. ARGV[1] .. ' has ended: it is ' .. field[1] .. ' and cannot be canceled')
end
redis.call('LREM', KEYS[2], 0, ARGV[1])
end_queued(batch, tonumber(field[2]), 'c', 'canceled')
redis.call('HSET', batch.record, 'state', 'canceling', 'cancel_requested_at', stamp(now()))
settle(batch)
return 1
