-- KEYS: record, atlases, deleted. ARGV: id. Nobody sees it any more; its objects are removed afterwards.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return redis.error_reply('NOTFOUND there is no atlas ' .. ARGV[1]) end
if not BATCH_ENDED[state] then
  return redis.error_reply('ILLEGAL atlas ' .. ARGV[1] .. ' is ' .. state .. ': cancel it before it is deleted')
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
