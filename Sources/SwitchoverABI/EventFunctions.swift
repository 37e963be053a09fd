// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import QMP
import Runtime

@c @implementation
public func swo_event_kind_of(_ event: OpaquePointer?) -> Int32 {
  answer("swo_event_kind_of") { () throws(CallFailure) in
    Int32(bitPattern: try object(event, EventHandle.self).event.content.kind.rawValue)
  }
}

@c @implementation
public func swo_event_migration(_ event: OpaquePointer?) -> OpaquePointer? {
  guard let event = try? object(event, EventHandle.self) else { return nil }
  return handle(borrowing: event.event.member.handle as? MigrationHandle)
}

@c @implementation
public func swo_event_qmp(_ event: OpaquePointer?) -> OpaquePointer? {
  guard let event = try? object(event, EventHandle.self) else { return nil }
  return handle(borrowing: event.event.member.handle as? QMPHandle)
}

@c @implementation
public func swo_event_phase(_ event: OpaquePointer?) -> Int32 {
  answer("swo_event_phase") { () throws(CallFailure) in
    guard case .phaseChanged(let phase) = try object(event, EventHandle.self).event.content else {
      return 0
    }
    return Int32(bitPattern: phase.word.rawValue)
  }
}

@c @implementation
public func swo_event_text(_ event: OpaquePointer?) -> UnsafePointer<CChar>? {
  textAnswer("swo_event_text") { () throws(CallFailure) in
    let handle = try object(event, EventHandle.self)
    return handle.text.pointer(to: handle.event.content.personText)
  }
}

@c @implementation
public func swo_event_name(_ event: OpaquePointer?) -> UnsafePointer<CChar>? {
  textAnswer("swo_event_name") { () throws(CallFailure) in
    let handle = try object(event, EventHandle.self)
    guard case .happened(let name, _, _) = handle.event.content else { return constant("") }
    return handle.name.pointer(to: name)
  }
}

@c @implementation
public func swo_event_json(_ event: OpaquePointer?) -> UnsafePointer<CChar>? {
  textAnswer("swo_event_json") { () throws(CallFailure) in
    let handle = try object(event, EventHandle.self)
    switch handle.event.content {
    case .happened(_, let json, _): return handle.json.pointer(to: json)
    case .replied(let reply):
      switch reply.outcome {
      case .returned(let json), .failed(_, let json): return handle.json.pointer(to: json)
      case .timedOut, .lost: return constant("")
      }
    default: return constant("")
    }
  }
}

@c @implementation
public func swo_event_code(_ event: OpaquePointer?) -> Int32 {
  answer("swo_event_code") { () throws(CallFailure) in
    switch try object(event, EventHandle.self).event.content {
    case .replied(let reply): return reply.outcome.code.rawValue
    case .clientClosed(let end): return end.failure.code.rawValue
    default: return 0
    }
  }
}

@c @implementation
public func swo_event_command_id(_ event: OpaquePointer?) -> UInt64 {
  guard let event = try? object(event, EventHandle.self),
    case .replied(let reply) = event.event.content
  else { return 0 }
  return reply.id
}

@c @implementation
public func swo_event_time_us(_ event: OpaquePointer?) -> Int64 {
  guard let event = try? object(event, EventHandle.self),
    case .happened(_, _, let timestamp) = event.event.content
  else { return 0 }
  return timestamp ?? 0
}

@c @implementation
public func swo_event_free(_ event: OpaquePointer?) { release(event, EventHandle.self) }

extension LoopEvent.Content {
  fileprivate var kind: swo_event_kind {
    switch self {
    case .phaseChanged: .SWO_EVENT_PHASE
    case .progressed: .SWO_EVENT_PROGRESS
    case .handOverWanted: .SWO_EVENT_HAND_OVER_WANTED
    case .warning: .SWO_EVENT_WARNING
    case .log: .SWO_EVENT_LOG
    case .finished: .SWO_EVENT_FINISHED
    case .clientReady: .SWO_EVENT_QMP_READY
    case .replied: .SWO_EVENT_QMP_REPLY
    case .happened: .SWO_EVENT_QMP_EVENT
    case .clientClosed: .SWO_EVENT_QMP_CLOSED
    }
  }

  fileprivate var personText: String {
    switch self {
    case .warning(let text), .log(let text): text
    case .replied(let reply):
      if case .failed(let error, _) = reply.outcome { error.text } else { "" }
    case .clientClosed(let end): end.failure.text
    case .phaseChanged, .progressed, .handOverWanted, .finished, .clientReady, .happened: ""
    }
  }
}

extension QMPReply.Outcome {
  var code: swo_code {
    switch self {
    case .returned: .SWO_OK
    case .failed: .SWO_E_QMP
    case .timedOut: .SWO_E_TIMEOUT
    case .lost: .SWO_E_LOST
    }
  }
}

extension ClientEnd {
  /// What the end means for a caller.
  var failure: CallFailure {
    switch self {
    case .busy: CallFailure(.SWO_E_BUSY, "monitor busy: another client holds it")
    case .unreachable(let text): CallFailure(.SWO_E_CONNECT, "monitor not reachable: \(text)")
    case .lost(let text): CallFailure(.SWO_E_LOST, "monitor lost: \(text)")
    case .protocolViolated(let text):
      CallFailure(.SWO_E_PROTOCOL, "the other side does not speak QMP: \(text)")
    case .overflowed:
      CallFailure(.SWO_E_LIMIT, "the connection was closed: too many events were not taken")
    }
  }
}
