-- ARGV: ids. Nothing is left of them.
for _, id in ipairs(ARGV) do
  local webhook = webhook_of(id)
  local owner = redis.call('HGET', webhook.record, 'owner')
  if owner then redis.call('ZREM', PREFIX .. 'webhooks:' .. owner, id) end
  redis.call('ZREM', PREFIX .. 'webhooks', id)
  forget_messages(webhook)
  redis.call('DEL', webhook.record, webhook.log, webhook.secrets)
end
return #ARGV
