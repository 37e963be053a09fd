// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import MigrationSession
import Runtime

@c @implementation
public func swo_migration_start(_ migration: OpaquePointer?) -> Int32 {
  answer("swo_migration_start") { () throws(CallFailure) in
    try begin(migration, checkOnly: false)
  }
}

@c @implementation
public func swo_migration_check(_ migration: OpaquePointer?) -> Int32 {
  answer("swo_migration_check") { () throws(CallFailure) in
    try begin(migration, checkOnly: true)
  }
}

@c @implementation
public func swo_migration_cancel(_ migration: OpaquePointer?) -> Int32 {
  answer("swo_migration_cancel") { () throws(CallFailure) in
    let migration = try unfinished(migration)
    guard migration.canCancel else {
      throw CallFailure(
        .SWO_E_TOO_LATE,
        "the switchover is past the point where it can be cancelled; it goes on")
    }
    return try request(.cancel, migration)
  }
}

@c @implementation
public func swo_migration_handed_over(_ migration: OpaquePointer?, _ result: Int32) -> Int32 {
  answer("swo_migration_handed_over") { () throws(CallFailure) in
    let outcome: HandOverResult
    switch swo_hand_over_result(rawValue: UInt32(bitPattern: result)) {
    case .SWO_HAND_OVER_DONE: outcome = .done
    case .SWO_HAND_OVER_FAILED: outcome = .failed
    case .SWO_HAND_OVER_UNKNOWN: outcome = .unknown
    default: throw .invalid("result \(result) is no swo_hand_over_result")
    }
    let migration = try unfinished(migration)
    guard migration.phase == .handingOver else { throw .state("no hand-over is wanted") }
    migration.isHandOverWanted = false
    return try request(.handedOver(outcome), migration)
  }
}

@c @implementation
public func swo_migration_handed_back(_ migration: OpaquePointer?) -> Int32 {
  answer("swo_migration_handed_back") { () throws(CallFailure) in
    try request(.handedBack, try unfinished(migration))
  }
}

@c @implementation
public func swo_migration_fenced(_ migration: OpaquePointer?, _ side: Int32) -> Int32 {
  answer("swo_migration_fenced") { () throws(CallFailure) in
    let side = try Side(word: side)
    return try request(.fenced(side), try unfinished(migration))
  }
}

@c @implementation
public func swo_migration_change_downtime_limit(
  _ migration: OpaquePointer?, _ limit_ms: UInt32
) -> Int32 {
  answer("swo_migration_change_downtime_limit") { () throws(CallFailure) in
    guard 1...2_000_000 ~= limit_ms else {
      throw .invalid("limit_ms is not in 1...2000000")
    }
    let migration = try unfinished(migration)
    guard migration.phase == .transferring else { throw .state("no RAM travels") }
    return try request(.downtimeLimit(milliseconds: Int64(limit_ms)), migration)
  }
}

@c @implementation
public func swo_migration_run(_ migration: OpaquePointer?, _ timeout_ms: Int32) -> Int32 {
  answer("swo_migration_run") { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    let migration = try handle.started()
    let loop = try handle.loop()
    _ = try onLoop { () throws(LoopError) in
      try loop.run(forMilliseconds: Int64(timeout_ms)) {
        migration.isFinished || migration.isHandOverWanted
      }
    }
    if migration.isFinished { return 1 }
    guard migration.isHandOverWanted else { return 0 }
    // Said once: a caller of an external hand-over waits for the end with the next call.
    migration.isHandOverWanted = false
    return 2
  }
}

// MARK: - Private

private func begin(_ pointer: OpaquePointer?, checkOnly: Bool) throws(CallFailure) -> Int32 {
  let handle = try object(pointer, MigrationHandle.self)
  let loop = try handle.loop()
  guard handle.migration == nil else { throw .state("the migration is started already") }
  let configuration = try handle.draft.configuration(checkOnly: checkOnly)
  let migration: Migration
  do throws(MigrationSetupError) {
    migration = try Migration(
      in: loop, configuration: configuration,
      journalPath: checkOnly ? nil : handle.draft.journalPath)
  } catch {
    throw CallFailure(error)
  }
  handle.begin(migration)
  return try request(.start, migration)
}

private func unfinished(_ pointer: OpaquePointer?) throws(CallFailure) -> Migration {
  let migration = try object(pointer, MigrationHandle.self).started()
  guard migration.conclusion == nil else { throw .state("the migration has ended") }
  return migration
}

private func request(
  _ request: HostRequest, _ migration: Migration
) throws(CallFailure) -> Int32 {
  try onLoop { () throws(LoopError) in try migration.request(request) }
  return 0
}
