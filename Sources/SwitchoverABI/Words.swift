// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import Runtime

// The engine's words in the numbers of the header.

extension Owner {
  var word: swo_owner {
    switch self {
    case .source: .SWO_OWNER_SOURCE
    case .target: .SWO_OWNER_TARGET
    case .nobody: .SWO_OWNER_NOBODY
    case .unknown: .SWO_OWNER_UNKNOWN
    }
  }
}

extension GuestCondition {
  var word: swo_guest {
    switch self {
    case .unknown: .SWO_GUEST_UNKNOWN
    case .running: .SWO_GUEST_RUNNING
    case .paused: .SWO_GUEST_PAUSED
    case .off: .SWO_GUEST_OFF
    }
  }
}

extension MigrationPhase {
  var word: swo_phase {
    switch self {
    case .idle: .SWO_PHASE_IDLE
    case .connecting: .SWO_PHASE_CONNECTING
    case .preflight: .SWO_PHASE_PREFLIGHT
    case .preparing: .SWO_PHASE_PREPARING
    case .mirroring: .SWO_PHASE_MIRRORING
    case .transferring: .SWO_PHASE_TRANSFERRING
    case .switchingOver: .SWO_PHASE_SWITCHING_OVER
    case .handingOver: .SWO_PHASE_HANDING_OVER
    case .activating: .SWO_PHASE_ACTIVATING
    case .finishing: .SWO_PHASE_FINISHING
    case .undoing: .SWO_PHASE_UNDOING
    case .ended: .SWO_PHASE_ENDED
    }
  }
}

extension MigrationEnd {
  var word: swo_end {
    switch self {
    case .completed: .SWO_END_COMPLETED
    case .cancelled: .SWO_END_CANCELLED
    case .failed: .SWO_END_FAILED
    case .unknown: .SWO_END_UNKNOWN
    }
  }
}

extension Side {
  init(word: Int32) throws(CallFailure) {
    switch swo_side(rawValue: UInt32(bitPattern: word)) {
    case .SWO_SIDE_SOURCE: self = .source
    case .SWO_SIDE_TARGET: self = .target
    default: throw .invalid("side \(word) is neither source nor target")
    }
  }

  var word: swo_side { self == .source ? .SWO_SIDE_SOURCE : .SWO_SIDE_TARGET }
}

@c @implementation
public func swo_owner_name(_ owner: Int32) -> UnsafePointer<CChar>? {
  switch swo_owner(rawValue: UInt32(bitPattern: owner)) {
  case .SWO_OWNER_SOURCE: constant("source")
  case .SWO_OWNER_TARGET: constant("target")
  case .SWO_OWNER_NOBODY: constant("nobody")
  case .SWO_OWNER_UNKNOWN: constant("unknown")
  default: constant("?")
  }
}

@c @implementation
public func swo_guest_name(_ guest: Int32) -> UnsafePointer<CChar>? {
  switch swo_guest(rawValue: UInt32(bitPattern: guest)) {
  case .SWO_GUEST_UNKNOWN: constant("unknown")
  case .SWO_GUEST_RUNNING: constant("running")
  case .SWO_GUEST_PAUSED: constant("paused")
  case .SWO_GUEST_OFF: constant("off")
  default: constant("?")
  }
}

@c @implementation
public func swo_phase_name(_ phase: Int32) -> UnsafePointer<CChar>? {
  switch swo_phase(rawValue: UInt32(bitPattern: phase)) {
  case .SWO_PHASE_IDLE: constant("idle")
  case .SWO_PHASE_CONNECTING: constant("connecting")
  case .SWO_PHASE_PREFLIGHT: constant("preflight")
  case .SWO_PHASE_PREPARING: constant("preparing")
  case .SWO_PHASE_MIRRORING: constant("mirroring")
  case .SWO_PHASE_TRANSFERRING: constant("transferring")
  case .SWO_PHASE_SWITCHING_OVER: constant("switching over")
  case .SWO_PHASE_HANDING_OVER: constant("handing over")
  case .SWO_PHASE_ACTIVATING: constant("activating")
  case .SWO_PHASE_FINISHING: constant("finishing")
  case .SWO_PHASE_UNDOING: constant("undoing")
  case .SWO_PHASE_ENDED: constant("ended")
  default: constant("?")
  }
}

@c @implementation
public func swo_end_name(_ end: Int32) -> UnsafePointer<CChar>? {
  switch swo_end(rawValue: UInt32(bitPattern: end)) {
  case .SWO_END_NONE: constant("none")
  case .SWO_END_COMPLETED: constant("completed")
  case .SWO_END_CANCELLED: constant("cancelled")
  case .SWO_END_FAILED: constant("failed")
  case .SWO_END_UNKNOWN: constant("unknown")
  default: constant("?")
  }
}

@c @implementation
public func swo_failure_name(_ failure: Int32) -> UnsafePointer<CChar>? {
  switch swo_failure(rawValue: UInt32(bitPattern: failure)) {
  case .SWO_FAILURE_NONE: constant("none")
  case .SWO_FAILURE_MONITOR_UNREACHABLE: constant("monitor-unreachable")
  case .SWO_FAILURE_MONITOR_BUSY: constant("monitor-busy")
  case .SWO_FAILURE_MONITOR_LOST: constant("monitor-lost")
  case .SWO_FAILURE_PROTOCOL: constant("protocol")
  case .SWO_FAILURE_SOURCE_UNFIT: constant("source-unfit")
  case .SWO_FAILURE_TARGET_UNFIT: constant("target-unfit")
  case .SWO_FAILURE_MISMATCH: constant("mismatch")
  case .SWO_FAILURE_COMMAND: constant("command")
  case .SWO_FAILURE_MIGRATION: constant("migration")
  case .SWO_FAILURE_TARGET_GONE: constant("target-gone")
  case .SWO_FAILURE_SOURCE_GONE: constant("source-gone")
  case .SWO_FAILURE_CANCELLED_ELSEWHERE: constant("cancelled-elsewhere")
  case .SWO_FAILURE_DEADLINE: constant("deadline")
  case .SWO_FAILURE_HAND_OVER: constant("hand-over")
  case .SWO_FAILURE_NOT_RESUMED: constant("not-resumed")
  case .SWO_FAILURE_GUEST_OFF: constant("guest-off")
  case .SWO_FAILURE_OUTCOME_UNKNOWN: constant("outcome-unknown")
  case .SWO_FAILURE_INTERNAL: constant("internal")
  case .SWO_FAILURE_STORAGE: constant("storage")
  case .SWO_FAILURE_JOURNAL: constant("journal")
  default: constant("?")
  }
}

@c @implementation
public func swo_code_name(_ code: Int32) -> UnsafePointer<CChar>? {
  switch swo_code(rawValue: code) {
  case .SWO_OK: constant("ok")
  case .SWO_E_INVALID: constant("invalid argument")
  case .SWO_E_STATE: constant("wrong state")
  case .SWO_E_SYSTEM: constant("system call failed")
  case .SWO_E_INTERRUPTED: constant("interrupted")
  case .SWO_E_TIMEOUT: constant("timed out")
  case .SWO_E_TOO_LATE: constant("too late")
  case .SWO_E_FORKED: constant("forked process")
  case .SWO_E_LIMIT: constant("limit reached")
  case .SWO_E_BUSY: constant("monitor busy")
  case .SWO_E_CONNECT: constant("not reachable")
  case .SWO_E_PROTOCOL: constant("protocol violated")
  case .SWO_E_QMP: constant("command refused")
  case .SWO_E_LOST: constant("connection lost")
  case .SWO_E_CLOSED: constant("closed")
  case .SWO_E_INTERNAL: constant("internal error")
  default: constant("?")
  }
}

@c @implementation
public func swo_last_error() -> UnsafePointer<CChar>? { ErrorText.pointer ?? constant("") }

@c @implementation
public func swo_version() -> UInt32 {
  UInt32(SWO_VERSION_MAJOR) << 16 | UInt32(SWO_VERSION_MINOR) << 8 | UInt32(SWO_VERSION_PATCH)
}

@c @implementation
public func swo_version_string() -> UnsafePointer<CChar>? { constant("0.1.0") }
