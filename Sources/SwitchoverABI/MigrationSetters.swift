// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import MigrationSession

/// QEMU's own bound for `downtime-limit`, milliseconds.
private let downtimeLimits: ClosedRange<UInt32> = 1...2_000_000

/// How long a monitor may take, milliseconds.
private let monitorDeadlines: ClosedRange<UInt32> = 100...600_000

@c @implementation
public func swo_migration_new(
  _ loop: OpaquePointer?, _ migration_out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer("swo_migration_new") { () throws(CallFailure) in
    guard let migration_out else { throw .invalid("migration_out is NULL") }
    migration_out.pointee = nil
    migration_out.pointee = handle(owning: MigrationHandle(in: try usableLoop(loop)))
    return 0
  }
}

@c @implementation
public func swo_migration_free(_ migration: OpaquePointer?) {
  release(migration, MigrationHandle.self)
}

@c @implementation
public func swo_migration_set_name(
  _ migration: OpaquePointer?, _ name: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_name", migration) { draft throws(CallFailure) in
    draft.options.name = try nonEmpty(name, "name", limit: MigrationDraft.nameLimit)
  }
}

@c @implementation
public func swo_migration_set_monitor(
  _ migration: OpaquePointer?, _ side: Int32, _ address: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_monitor", migration) { draft throws(CallFailure) in
    switch try Side(word: side) {
    case .source: draft.sourceMonitor = try endpoint(address, "address")
    case .target: draft.targetMonitor = try endpoint(address, "address")
    }
  }
}

@c @implementation
public func swo_migration_set_monitor_sharing(
  _ migration: OpaquePointer?, _ side: Int32, _ sharing: Int32
) -> Int32 {
  set("swo_migration_set_monitor_sharing", migration) { draft throws(CallFailure) in
    let side = try Side(word: side)
    let isShared: Bool
    switch swo_monitor_sharing(rawValue: UInt32(bitPattern: sharing)) {
    case .SWO_MONITOR_EXCLUSIVE: isShared = false
    case .SWO_MONITOR_SHARED: isShared = true
    default: throw .invalid("sharing \(sharing) is no swo_monitor_sharing")
    }
    guard side == .source || !isShared else {
      throw .invalid("the target's monitor cannot be shared: nobody else may resume the target")
    }
    if side == .source { draft.options.sourceMonitorIsShared = isShared }
  }
}

@c @implementation
public func swo_migration_set_oob_monitor(
  _ migration: OpaquePointer?, _ address: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_oob_monitor", migration) { draft throws(CallFailure) in
    draft.sourceOutOfBand = try endpoint(address, "address")
  }
}

@c @implementation
public func swo_migration_set_uri(
  _ migration: OpaquePointer?, _ uri: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_uri", migration) { draft throws(CallFailure) in
    draft.options.uri = try nonEmpty(uri, "uri")
  }
}

@c @implementation
public func swo_migration_set_incoming_uri(
  _ migration: OpaquePointer?, _ uri: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_incoming_uri", migration) { draft throws(CallFailure) in
    draft.options.incomingURI = try nonEmpty(uri, "uri")
  }
}

@c @implementation
public func swo_migration_set_hand_over(_ migration: OpaquePointer?, _ mode: Int32) -> Int32 {
  set("swo_migration_set_hand_over", migration) { draft throws(CallFailure) in
    switch swo_hand_over(rawValue: UInt32(bitPattern: mode)) {
    case .SWO_HAND_OVER_BEFORE_RESUME: draft.options.handOver = .beforeResume
    case .SWO_HAND_OVER_AFTER_RESUME: draft.options.handOver = .afterResume
    case .SWO_HAND_OVER_NONE: draft.options.handOver = .none
    case .SWO_HAND_OVER_EXTERNAL: draft.options.handOver = .external
    default: throw .invalid("mode \(mode) is no swo_hand_over")
    }
  }
}

@c @implementation
public func swo_migration_set_source_end(
  _ migration: OpaquePointer?, _ source_end: Int32
) -> Int32 {
  set("swo_migration_set_source_end", migration) { draft throws(CallFailure) in
    switch swo_source_end(rawValue: UInt32(bitPattern: source_end)) {
    case .SWO_SOURCE_QUIT: draft.options.sourceEnd = .quit
    case .SWO_SOURCE_KEEP: draft.options.sourceEnd = .keep
    default: throw .invalid("source_end \(source_end) is no swo_source_end")
    }
    draft.hasSourceEnd = true
  }
}

@c @implementation
public func swo_migration_set_downtime_limit(
  _ migration: OpaquePointer?, _ limit_ms: UInt32, _ highest_ms: UInt32
) -> Int32 {
  set("swo_migration_set_downtime_limit", migration) { draft throws(CallFailure) in
    guard downtimeLimits.contains(limit_ms) else {
      throw .invalid("limit_ms \(limit_ms) is not in 1…\(downtimeLimits.upperBound)")
    }
    guard highest_ms == 0 || (limit_ms...downtimeLimits.upperBound).contains(highest_ms) else {
      throw .invalid("highest_ms \(highest_ms) is neither 0 nor from limit_ms up")
    }
    draft.options.downtimeLimitMilliseconds = Int64(limit_ms)
    draft.options.highestDowntimeLimitMilliseconds = Int64(highest_ms)
  }
}

@c @implementation
public func swo_migration_set_bandwidth(
  _ migration: OpaquePointer?, _ bytes_per_second: UInt64
) -> Int32 {
  set("swo_migration_set_bandwidth", migration) { draft throws(CallFailure) in
    guard bytes_per_second <= UInt64(Int64.max) else {
      throw .invalid("bytes_per_second \(bytes_per_second) is more than QEMU takes")
    }
    draft.options.bandwidthBytesPerSecond = bytes_per_second
  }
}

@c @implementation
public func swo_migration_set_capability(
  _ migration: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ on: Int32
) -> Int32 {
  set("swo_migration_set_capability", migration) { draft throws(CallFailure) in
    try draft.setCapability(try nonEmpty(name, "name"), on: try flag(on, "on"))
  }
}

@c @implementation
public func swo_migration_set_parameter(
  _ migration: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ json: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_parameter", migration) { draft throws(CallFailure) in
    try draft.setParameter(try nonEmpty(name, "name"), json: try text(json, "json"))
  }
}

@c @implementation
public func swo_migration_set_journal(
  _ migration: OpaquePointer?, _ path: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_journal", migration) { draft throws(CallFailure) in
    draft.journalPath = try absolutePath(path, "path")
  }
}

@c @implementation
public func swo_migration_set_transfer_deadline(
  _ migration: OpaquePointer?, _ milliseconds: UInt64
) -> Int32 {
  set("swo_migration_set_transfer_deadline", migration) { draft throws(CallFailure) in
    draft.options.transferDeadline =
      milliseconds == 0 ? nil : .milliseconds(Int64(clamping: milliseconds))
  }
}

@c @implementation
public func swo_migration_set_monitor_deadlines(
  _ migration: OpaquePointer?, _ connect_ms: UInt32, _ reconnect_ms: UInt32
) -> Int32 {
  set("swo_migration_set_monitor_deadlines", migration) { draft throws(CallFailure) in
    for value in [connect_ms, reconnect_ms] where !monitorDeadlines.contains(value) {
      throw .invalid("\(value) ms is not in 100…\(monitorDeadlines.upperBound)")
    }
    draft.options.connectDeadline = .milliseconds(Int64(connect_ms))
    draft.options.reconnectDeadline = .milliseconds(Int64(reconnect_ms))
  }
}

// MARK: - Shared by the setters

/// Changes the draft of a migration that is not started.
func set(
  _ function: StaticString, _ migration: OpaquePointer?,
  _ body: (inout MigrationDraft) throws(CallFailure) -> Void
) -> Int32 {
  answer(function) { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    _ = try handle.loop()
    guard handle.migration == nil else { throw .state("the migration is started already") }
    // A setter that fails leaves everything as it was.
    var draft = handle.draft
    try body(&draft)
    handle.draft = draft
    return 0
  }
}

func nonEmpty(
  _ pointer: UnsafePointer<CChar>?, _ name: StaticString, limit: Int = 4096
) throws(CallFailure) -> String {
  let value = try text(pointer, name, limit: limit)
  guard !value.isEmpty else { throw .invalid("\(name) is empty") }
  return value
}
