-- The transcoder refuses a body or a query with one line of text: "alert_rule.window_minutes: invalid value "abc" for type
-- TYPE_INT32". This turns it into the services' form: google.rpc.Status with a google.rpc.BadRequest that names the field
-- by its JSON name.

local VALUE_EXPECTED = {
  TYPE_BOOL = "true or false", TYPE_STRING = "a string", TYPE_BYTES = "a base64 string",
  TYPE_INT32 = "a 32-bit integer", TYPE_INT64 = "a 64-bit integer", TYPE_DOUBLE = "a number", TYPE_FLOAT = "a number",
}

-- window_minutes -> windowMinutes, but not in the name of a map's entry: labels[my_team]
local function json_name(path)
  local fields, entry = path:match("^(.-)(%[%D.*)$")
  return ((fields or path):gsub("_(%l)", string.upper)) .. (entry or "")
end

local ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t"}

local UTF8 = {
  "^[%z\1-\127]+", "^[\194-\223][\128-\191]", "^\224[\160-\191][\128-\191]", "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]", "^\240[\144-\191][\128-\191][\128-\191]", "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]",
}

-- The error quotes the request, at any length and cut anywhere; this makes it valid text for JSON.
local MAX_BYTES = 400

local function readable(text)
  local pieces, at = {}, 1
  text = #text > MAX_BYTES and text:sub(1, MAX_BYTES) .. "..." or text
  while at <= #text do
    local piece
    for _, pattern in ipairs(UTF8) do
      piece = piece or text:match(pattern, at)
    end
    pieces[#pieces + 1] = piece or "?"
    at = at + #pieces[#pieces]
  end
  return table.concat(pieces)
end

local function quoted(text)
  local escaped = readable(text):gsub('[%c"\\]', function(char)
    return ESCAPES[char] or string.format("\\u%04x", char:byte())
  end)
  return '"' .. escaped .. '"'
end

local function join(path, field)
  if path == "" then return field end
  return path .. "." .. field
end

-- The kind of value that the field takes, from the type's name in the error.
local function expected(type_name)
  local values = ENUM_VALUES[type_name:match("([%w_]+%.[%w_]+)$")]
  if values then return "one of " .. values end
  local message = type_name:match("([%w_]+)$")
  return VALUE_EXPECTED[type_name] or ("a value of " .. (message or type_name))
end

-- The request fields that take lists.
local TAKES_LIST = {groupBy = true, group_by = true, dependsOn = true, depends_on = true, services = true,
  matchers = true, alertIds = true, alert_ids = true}
-- And those in a routing tree, at any depth.
local TAKES_LIST_IN_TREE = {matchers = true, receivers = true, routes = true, labels = true, source = true, target = true,
  equal = true, inhibitionRules = true, inhibition_rules = true}

local function takes_list(path)
  if path:find("^tree%.") then return TAKES_LIST_IN_TREE[path:match("([%w_]+)$")] end
  return TAKES_LIST[path:match("^services%[%d+%]%.(.*)$") or path]
end

-- Returns where the JSON value at a position ends; adds the path of each list and field in it. Raises on invalid JSON.
local function walk(json, at, path, lists, fields)
  at = assert(json:find("%S", at))
  local first = json:sub(at, at)
  if first == '"' then
    repeat at = assert(json:find('["\\]', at + 1)) + 1 until json:sub(at - 1, at - 1) == '"'
    return at
  elseif first ~= "{" and first ~= "[" then
    return assert(json:find("[,%]}%s]", at))
  end
  local index, key = 0, nil
  if first == "[" then lists[#lists + 1] = path end
  at = assert(json:find("[^,%s]", at + 1))
  while not json:find("^[%]}]", at) do
    if first == "{" then
      key, at = assert(json:match('^"([^"]*)"%s*:%s*()', at))
      fields[#fields + 1] = join(path, key)
      at = walk(json, at, join(path, key), lists, fields)
    else
      -- The transcoder skips null and does not count it.
      local is_null = json:find("^null", at)
      at = walk(json, at, path .. "[" .. index .. "]", lists, fields)
      index = is_null and index or index + 1
    end
    at = assert(json:find("[^,%s]", at))
  end
  return at + 1
end

-- The first field with a list that takes none; nil when the body was not kept.
local function with_list(json)
  local lists = {}
  -- After the list that stopped the transcoder the JSON may be invalid.
  pcall(walk, json or "", 1, "", lists, {})
  for _, found in ipairs(lists) do
    if found ~= "" and not takes_list(found) then return found end
  end
end

-- labels[0] -> labels[team]: the transcoder counts the entries of a map.
local function entry_of(path, json)
  local map, index = path:match("^(.*)%[(%d+)%]$")
  if not map then return path end
  -- The body may be one field of the request, which the path begins with.
  local before = map:gsub("^alert_rule%.", ""):gsub("^service%.", "") .. "."
  local fields, rest = {}, tonumber(index)
  pcall(walk, json or "", 1, "", {}, fields)
  for _, field in ipairs(fields) do
    if field:sub(1, #before) == before then
      if rest == 0 then return map .. "[" .. field:sub(#before + 1) .. "]" end
      rest = rest - 1
    end
  end
  return path
end

-- The transcoder ignores fields that it does not know. A rule without such a field would select other events than its
-- author meant, and an acknowledgement would name nobody: all are refused here, by the tables of methods.lua. What only the
-- server sets is ignored: who reads a rule may send it back.

-- Names as JSON and as the contract have them.
local function in_both_spellings(fields)
  local names = {}
  for name in fields:gmatch("%w+") do
    names[name] = true
    names[name:gsub("%u", function(letter) return "_" .. letter:lower() end)] = true
  end
  return names
end

local function known_fields(settable, of_the_server)
  return {
    settable = in_both_spellings(settable),
    of_the_server = in_both_spellings(of_the_server),
    text = settable:gsub(" ", ", "),
  }
end

local KNOWN = {}
for name, message in pairs(MESSAGES) do
  KNOWN[name] = known_fields(message.settable, message.of_the_server)
end
-- A call without a body has no fields.
local NO_FIELDS = known_fields("", "")

-- The similarity of names, as Python's difflib has it and so the tocsin command: how many characters are the same, in the
-- longest piece that two strings share and in what stands before and behind it.
local function shared_characters(one, other)
  local longest, at, other_at = 0, 1, 1
  for first = 1, #one do
    for second = 1, #other do
      local length = 0
      while first + length <= #one and one:byte(first + length) == other:byte(second + length) do length = length + 1 end
      if length > longest then longest, at, other_at = length, first, second end
    end
  end
  if longest == 0 then return 0 end
  return longest + shared_characters(one:sub(1, at - 1), other:sub(1, other_at - 1))
    + shared_characters(one:sub(at + longest), other:sub(other_at + longest))
end

local MIN_SIMILARITY, MAX_COMPARED_BYTES = 0.6, 64

-- What is wrong with a name that is none of these.
local function unknown(name, fields)
  local most, meant = MIN_SIMILARITY, nil
  for known in pairs(#name <= MAX_COMPARED_BYTES and fields.settable or {}) do
    local similarity = 2 * shared_characters(known, name) / (#name + #known)
    -- Of two that are alike the last by the alphabet, whatever the order of the table.
    if similarity > most or (similarity == most and known > (meant or "")) then most, meant = similarity, known end
  end
  if meant then return 'did you mean "' .. (fields.shown or tostring)(meant) .. '"?' end
  return fields.text == "" and "there is none here" or "expected one of " .. fields.text
end

local function method_at(verb, path)
  path = path:match("^[^?]*")
  for _, method in ipairs(METHODS) do
    if method.verb == verb and path:find(method.path) then return method end
  end
end

-- The verbs of what is at a path, in the order of the contracts.
local function verbs_at(path)
  local verbs = {}
  for _, method in ipairs(METHODS) do
    if path:find(method.path) then verbs[#verbs + 1] = method.verb end
  end
  return verbs
end

-- What is wrong with a field of a body; nil when nothing is. Its path leads through the objects in the body.
local function wrong_field(field, message)
  for step in (field .. "."):gmatch("([^.]*)%.") do
    local name, known = step:match("^[^%[]*"), KNOWN[message] or NO_FIELDS
    if not known.settable[name] and not known.of_the_server[name] then return "unknown field; " .. unknown(name, known) end
    message = MESSAGES[message].inner[name]
    -- Inside of maps, and of what only the server sets, names are free.
    if not message then return end
  end
end

-- The first field that the body should not have, and what is wrong with it.
local function unknown_field(method, json)
  local fields = {}
  -- The transcoder refuses invalid JSON.
  if not pcall(walk, json, 1, "", {}, fields) then return end
  for _, field in ipairs(fields) do
    -- The transcoder refuses a list as a body.
    local wrong = not field:find("^%[") and wrong_field(field, method.body)
    if wrong then return field, wrong end
  end
end

-- What is expected where the library says "Illegal duration format" and the like; the value as the body has it, when that
-- has one field of this name.
local function form_expected(path, explained, json)
  local form = explained:find("duration") and 'a duration in seconds such as "300s" is expected'
    or explained:find("time") and "a time with its zone such as 2026-11-27T10:00:00Z is expected"
  if not form then return explained end
  local name = path:match("[%w_]+$") or ""
  local found, count
  for _, each in ipairs({name, json_name(name)}) do
    for value in (json or ""):gmatch('"' .. each .. '"%s*:%s*"([^"\\]*)"') do found, count = value, (count or 0) + 1 end
    if name == json_name(name) then break end
  end
  return count == 1 and form .. ', not "' .. found .. '"' or form
end

-- What is wrong with JSON, and where: the parser shows a piece of the text, and below it points at the place.
local function malformed(text)
  local what, piece, indent = text:match("^([^\n]*)\n([^\n]*)\n( *)%^")
  if not what then return text end
  local rest = piece:sub(#indent + 1, #indent + 20)
  return what:gsub("%.$", "") .. (rest == "" and ", at the end" or ', at: ' .. rest)
end

-- The field of an error and its description; the field is nil when the body is not JSON.
local function violation(text, json, method)
  local path, value, type_name = text:match("^([%w_%.%[%]]*): invalid value (.*) for type ([^%s]+)$")
  if path then
    if value == "Starting an object on a scalar field" then
      return join(path, type_name), "an object where one value is expected"
    end
    local map = value:match("^Cannot bind a list to map for field '([%w_]+)'%.$")
    if map then return join(path, map), "a list where an object is expected" end
    local twice = value:match("^oneof field '[%w_]+' is already set%. Cannot set '([%w_]+)'$")
    if twice then return join(path, twice), "another field that excludes it is set as well" end
    local explained = value:match("^Field '[%w_]+', (.*)$")
    if explained then return path, form_expected(path, explained, json) end
    local entry = path:match("^(.*%])%.value$")
    if entry then return entry_of(entry, json), expected(type_name) .. " is expected, not " .. value end
    return path, expected(type_name) .. " is expected, not " .. value
  end
  path = text:match("^([%w_%.%[%]]*): Proto field is not repeating, cannot start list%.$")
  if path == "" then return path, "a list where one value is expected" end
  if path then
    -- The transcoder does not name the field.
    local field = with_list(json)
    if field then return field, "a list where one value is expected" end
    return path, "one of its fields has a list where one value is expected"
  end
  path = text:match("^([%w_%.%[%]]+)%.value: Proto fields must have a name%.$")
  if path then return entry_of(path, json), "a list where a string is expected" end
  local parameter = text:match('^Could not find field "(.-)" in the type')
  if parameter then
    local known = known_fields(method and method.query or "", "")
    known.shown = json_name
    return parameter, "there is no such query parameter; " .. unknown(parameter, known)
  end
  local misspelt, wrong = text:match('^There is no field "(.*)": (.*)$')
  if misspelt then return misspelt, wrong end
  local bound = text:match("^The binding value .* of the field ([%w_%.]+) is conflicting")
  if bound then return bound, "the path has another value" end
  path = text:match("^([%w_%.%[%]]+): ")
  if path then return path, text:sub(#path + 3) end
  return nil, text
end

local function answer(reason, field, description)
  -- The body of such a request is the rule, the service, the change or the silence, so its fields are at the top level.
  field = json_name(field):gsub("^alertRule%.", ""):gsub("^service%.", ""):gsub("^change%.", ""):gsub("^silence%.", "")
  return '{"code":3,"message":' .. quoted(field .. ": " .. description)
    .. ',"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"' .. reason
    .. '","domain":"tocsin.dev","metadata":{}},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":'
    .. quoted(field) .. ',"description":' .. quoted(description) .. "}]}]}"
end

local function refusal(text, json, method)
  -- Envoy's own text for a request that never reached the transcoder.
  if text == "Bad Request" or text == "" then
    return answer("MALFORMED_MESSAGE", "request", "its path or its headers are not valid HTTP")
  end
  local field, description = violation(text, json, method)
  if not field then
    return answer("MALFORMED_MESSAGE", "body", "not valid JSON: " .. malformed(description))
  end
  return answer("INVALID_REQUEST", field == "" and "body" or field, description)
end

local function replace(handle, body, text)
  -- Fetched again: headers that were fetched before the body are out of scope.
  local headers = handle:headers()
  headers:remove("x-tocsin-refused")
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(body:setBytes(text)))
end

-- The transcoder does not refuse an object as a value in a map of strings: it writes bytes that are no message, which the
-- service then refuses. No other JSON becomes such bytes. The maps of the requests, by route:
local MAPS = {rule_commands = {"labels"}, rule_queries = {"labels"}, catalog_commands = {"links", "labels"},
  routing_queries = {"labels"}}

-- The map with such a value; the last one when the body was not kept.
local function odd_map(maps, json)
  for _, name in ipairs(maps) do
    if json and json:find('"' .. name .. '"%s*:%s*{[^{}]*{') then return name end
  end
  return maps[#maps]
end

-- No rule is longer.
local MAX_KEPT_BYTES = 65536
local KEPT = "tocsin.refusals"

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = (headers:get("content-type") or ""):lower()
  if content_type:find("^application/grpc") then return end
  -- Browsers let any page post anything but JSON to this machine without asking it, and it may need no credentials.
  if headers:get("origin") and headers:get(":method") == "POST" and not content_type:find("^application/json") then
    handle:respond({[":status"] = "400"}, "header: a page may send content-type application/json only")
    return
  end
  -- Before the body: after it the headers and the metadata are out of scope.
  local verb, path, metadata = headers:get(":method"), headers:get(":path"), handle:streamInfo():dynamicMetadata()
  metadata:set(KEPT, "verb", verb)
  metadata:set(KEPT, "path", path:match("^[^?]*"))
  -- Ingest itself reads the JSON of events.
  if path:find("^/api/logs") then return end
  if verb == "GET" then return metadata:set(KEPT, "has_body", false) end
  local method = method_at(verb, path)
  local body = handle:body()
  if not body or body:length() > MAX_KEPT_BYTES then return end
  local json = body:getBytes(0, body:length())
  handle:streamInfo():dynamicMetadata():set(KEPT, "json", json)
  if not method then return end
  local field, wrong = unknown_field(method, json)
  if field then handle:respond({[":status"] = "400"}, 'There is no field "' .. field .. '": ' .. wrong) end
end

-- A service's RetryInfo as the HTTP header, in whole seconds.
local function hint_when_to_retry(handle)
  local body = handle:body(true)
  local delay = body:getBytes(0, body:length()):match('"retryDelay":"([%d%.]+)s"')
  if delay then handle:headers():replace("retry-after", tostring(math.ceil(tonumber(delay)))) end
end

-- Nothing takes this verb at the path: another one does, or the path itself does not exist.
local function name_verbs(handle)
  local kept = handle:streamInfo():dynamicMetadata():get(KEPT)
  local verbs = kept and kept.verb ~= "HEAD" and verbs_at(kept.path) or {}
  -- A verb that is known is served at another port.
  if #verbs == 0 or method_at(kept.verb, kept.path) then return end
  local message = kept.verb .. " is not allowed here; expected " .. table.concat(verbs, ", ")
  local body = handle:body(true)
  local length = body:setBytes('{"code":12,"message":' .. quoted(message) .. ',"details":[]}')
  local headers = handle:headers()
  headers:replace(":status", "405")
  headers:replace("allow", table.concat(verbs, ", "))
  headers:replace("content-length", tostring(length))
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if (status == "429" or status == "503") and headers:get("content-type") == "application/json" then
    return hint_when_to_retry(handle)
  end
  if headers:get("x-tocsin-nothing") then
    headers:remove("x-tocsin-nothing")
    return name_verbs(handle)
  end
  if status == "401" then return headers:replace("www-authenticate", 'Bearer realm="tocsin"') end
  if status ~= "400" then return end
  if headers:get("x-tocsin-refused") then
    local body = handle:body(true)
    local text = body:length() > 0 and body:getBytes(0, body:length()) or ""
    local kept = handle:streamInfo():dynamicMetadata():get(KEPT)
    local method = kept and kept.verb and method_at(kept.verb, kept.path)
    replace(handle, body, refusal(text, kept and kept.json, method))
  elseif headers:get("content-type") == "application/json" then
    local body = handle:body(true)
    local text = body:getBytes(0, body:length())
    local kept = handle:streamInfo():dynamicMetadata():get(KEPT)
    local maps = MAPS[handle:streamInfo():routeName()]
    if text:find('"REQUEST_TOO_LARGE"', 1, true) then
      -- HTTP has a status for the size of a request, gRPC has not.
      handle:headers():replace(":status", "413")
    elseif not text:find('"MALFORMED_MESSAGE"', 1, true) then
      return
    elseif kept and kept.has_body == false then
      -- The transcoder copies the bytes of the path and the query, and a string in a message must be UTF-8.
      replace(handle, body, answer("INVALID_REQUEST", "request", "its path or its query is not UTF-8"))
    elseif maps then
      local map = odd_map(maps, kept and kept.json)
      replace(handle, body, answer("INVALID_REQUEST", map, "one of its values is an object, not a string"))
    end
  end
end
