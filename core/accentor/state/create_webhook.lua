-- ARGV: id, owner, limit, secret, url, events, description. Returns how many the owner had, and whether this one was added.
local owned = PREFIX .. 'webhooks:' .. ARGV[2]
local count = redis.call('ZCARD', owned)
if count >= tonumber(ARGV[3]) then return {count, 0} end
if ARGV[2] ~= ANONYMOUS and redis.call('HEXISTS', PREFIX .. 'access', ARGV[2]) == 0 then
  return redis.error_reply('NOTFOUND the API key was revoked')
end
local webhook, created_at = webhook_of(ARGV[1]), stamp(now())
redis.call('HSET', webhook.record, 'id', ARGV[1], 'owner', ARGV[2], 'url', ARGV[5], 'events', ARGV[6], 'description', ARGV[7],
  'created_at', created_at)
redis.call('ZADD', webhook.secrets, '+inf', ARGV[4])
redis.call('ZADD', owned, created_at, ARGV[1])
redis.call('ZADD', PREFIX .. 'webhooks', created_at, ARGV[1])
return {count, 1}
