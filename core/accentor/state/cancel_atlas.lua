-- KEYS: record. ARGV: id.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return redis.error_reply('NOTFOUND there is no atlas ' .. ARGV[1]) end
if state == 'canceling' or state == 'canceled' then return 0 end
if BATCH_ENDED[state] then
  return redis.error_reply('ILLEGAL atlas ' .. ARGV[1] .. ' has ended: it is ' .. state .. ' and cannot be canceled')
end
redis.call('HSET', KEYS[1], 'state', 'canceling', 'cancel_requested_at', stamp(now()))
redis.call('HINCRBY', KEYS[1], 'revision', 1)
return 1
