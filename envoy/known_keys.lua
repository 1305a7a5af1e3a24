-- REST bodies are held here until they are complete, so whoever sends one must be known before. A service says whether a key
-- is valid; who brought a valid one is not asked for again for a while, since the service that is called checks each call.

local ASKED_AGAIN_AFTER_SECONDS = 30
local MAX_KEPT = 10000
-- Of a key as it is sent. What is longer, as a key with spaces behind it, is valid in endless forms, and none is kept.
local MAX_BYTES = 70
local CHECK = {[":method"] = "POST", [":path"] = "/tocsin.edge.KeyCheck/Check", [":authority"] = "tocsin",
  ["content-type"] = "application/grpc", te = "trailers"}
local EMPTY_MESSAGE = "\0\0\0\0\0"
local OK, UNAUTHENTICATED, UNIMPLEMENTED = "0", "16", "12"

-- When a key was found valid, by the header it came in.
local found_valid, kept = {}, 0

local function keep(credentials, now)
  if #credentials > MAX_BYTES then return end
  if not found_valid[credentials] then
    if kept >= MAX_KEPT then found_valid, kept = {}, 0 end
    kept = kept + 1
  end
  found_valid[credentials] = now
end

-- What a service says of a key, as a status of gRPC. The manager knows of a new key first; nil where nobody can tell.
local function status_of(handle, credentials)
  local request = {authorization = credentials}
  for name, value in pairs(CHECK) do request[name] = value end
  for _, cluster in ipairs({"manager", "any_service"}) do
    local answer = handle:httpCall(cluster, request, EMPTY_MESSAGE, 1000)
    local status = answer[":status"] == "200" and (answer["grpc-status"] or OK)
    if status == OK or status == UNAUTHENTICATED or status == UNIMPLEMENTED then return status end
  end
end

function envoy_on_request(handle)
  local credentials = handle:headers():get("authorization")
  if not credentials or not credentials:lower():find("^bearer tocsin_") then return end
  local now = os.time()
  if now - (found_valid[credentials] or 0) < ASKED_AGAIN_AFTER_SECONDS then return end
  local status = status_of(handle, credentials)
  -- Services of the former release do not know the question.
  if status == OK or status == UNIMPLEMENTED then return keep(credentials, now) end
  if status == UNAUTHENTICATED then
    found_valid[credentials] = nil
    -- The next filter refuses it as it refuses who brings nothing. Headers that were fetched before are out of scope.
    return handle:headers():replace("authorization", "not valid")
  end
  if not found_valid[credentials] then handle:respond({[":status"] = "503"}, "the keys are not known at the moment") end
end
