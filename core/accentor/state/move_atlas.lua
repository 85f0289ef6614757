-- KEYS: record, open. ARGV: id, the step that it is at, the step's batch or '', the new state, then fields that change. 0 if
-- somebody has moved it on, or it is being canceled and this is no end. An end removes it from the open ones.
local field = redis.call('HMGET', KEYS[1], 'state', 'step', 'batch')
if not field[1] or BATCH_ENDED[field[1]] or field[2] ~= ARGV[2] or (field[3] or '') ~= ARGV[3] then return 0 end
if field[1] == 'canceling' and not BATCH_ENDED[ARGV[4]] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[4], unpack(ARGV, 5))
redis.call('HINCRBY', KEYS[1], 'revision', 1)
if BATCH_ENDED[ARGV[4]] then
  redis.call('HSET', KEYS[1], 'finished_at', stamp(now()))
  redis.call('SREM', KEYS[2], ARGV[1])
end
return 1
