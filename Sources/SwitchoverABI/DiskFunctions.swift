// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import MigrationEngine
import MigrationSession
import Runtime

/// How long storage may hold the guest up, milliseconds.
private let storageLimits: ClosedRange<UInt32> = 50...600_000

@c @implementation
public func swo_migration_set_nbd(
  _ migration: OpaquePointer?, _ address: UnsafePointer<CChar>?,
  _ listen_address: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_set_nbd", migration) { draft throws(CallFailure) in
    draft.options.storage.address = try serverAddress(address, "address")
    draft.options.storage.listenAddress =
      listen_address == nil ? nil : try serverAddress(listen_address, "listen_address")
  }
}

@c @implementation
public func swo_migration_add_disk(
  _ migration: OpaquePointer?, _ device: UnsafePointer<CChar>?,
  _ export_name: UnsafePointer<CChar>?, _ target_node: UnsafePointer<CChar>?,
  _ bandwidth: UInt64
) -> Int32 {
  set("swo_migration_add_disk", migration) { draft throws(CallFailure) in
    guard bandwidth <= UInt64(Int64.max) else {
      throw .invalid("bandwidth \(bandwidth) is more than QEMU takes")
    }
    var disk = DiskOptions(
      device: try nonEmpty(device, "device"), exportName: try nonEmpty(export_name, "export_name"),
      targetNode: target_node == nil ? nil : try nonEmpty(target_node, "target_node"))
    disk.bandwidthBytesPerSecond = bandwidth
    try draft.add(disk)
  }
}

@c @implementation
public func swo_migration_take_over_mirror(
  _ migration: OpaquePointer?, _ device: UnsafePointer<CChar>?, _ job_id: UnsafePointer<CChar>?,
  _ write_blocking: Int32, _ node: UnsafePointer<CChar>?
) -> Int32 {
  set("swo_migration_take_over_mirror", migration) { draft throws(CallFailure) in
    let mirror = DiskOptions.Mirror.takenOver(
      jobID: try nonEmpty(job_id, "job_id"),
      copiesInWriteBlockingMode: try flag(write_blocking, "write_blocking"),
      node: node == nil ? nil : try nonEmpty(node, "node"))
    try draft.add(
      DiskOptions(device: try nonEmpty(device, "device"), mirror: mirror, exportName: ""))
  }
}

@c @implementation
public func swo_migration_set_sync_deadline(
  _ migration: OpaquePointer?, _ milliseconds: UInt64
) -> Int32 {
  set("swo_migration_set_sync_deadline", migration) { draft throws(CallFailure) in
    draft.options.storage.syncDeadline =
      milliseconds == 0 ? nil : .milliseconds(Int64(clamping: milliseconds))
  }
}

@c @implementation
public func swo_migration_set_sync_policy(_ migration: OpaquePointer?, _ policy: Int32) -> Int32 {
  set("swo_migration_set_sync_policy", migration) { draft throws(CallFailure) in
    switch swo_sync_policy(rawValue: UInt32(bitPattern: policy)) {
    case .SWO_SYNC_FAIL: draft.options.storage.policy = .fail
    case .SWO_SYNC_WAIT: draft.options.storage.policy = .wait
    case .SWO_SYNC_THROTTLE: draft.options.storage.policy = .throttle
    default: throw .invalid("policy \(policy) is no swo_sync_policy")
    }
  }
}

@c @implementation
public func swo_migration_set_storage_limits(
  _ migration: OpaquePointer?, _ yank_ms: UInt32, _ drain_ms: UInt32
) -> Int32 {
  set("swo_migration_set_storage_limits", migration) { draft throws(CallFailure) in
    for value in [yank_ms, drain_ms] where !storageLimits.contains(value) {
      throw .invalid("\(value) ms is not in 50…\(storageLimits.upperBound)")
    }
    draft.options.storage.yankLimit = .milliseconds(Int64(yank_ms))
    draft.options.storage.drainLimit = .milliseconds(Int64(drain_ms))
  }
}

@c @implementation
public func swo_migration_set_fast_order(_ migration: OpaquePointer?, _ allowed: Int32) -> Int32 {
  set("swo_migration_set_fast_order", migration) { draft throws(CallFailure) in
    draft.options.storage.allowsFastOrder = try flag(allowed, "allowed")
  }
}

@c @implementation
public func swo_migration_disk_count(_ migration: OpaquePointer?) -> Int32 {
  answer("swo_migration_disk_count") { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    _ = try handle.loop()
    return Int32(clamping: handle.disks.count)
  }
}

@c @implementation
public func swo_migration_disk(
  _ migration: OpaquePointer?, _ index: Int32,
  _ device_out: UnsafeMutablePointer<UnsafePointer<CChar>?>?,
  _ done_out: UnsafeMutablePointer<UInt64>?, _ total_out: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  answer("swo_migration_disk") { () throws(CallFailure) in
    let handle = try object(migration, MigrationHandle.self)
    _ = try handle.loop()
    let disks = handle.disks
    let index = Int(index)
    guard disks.indices.contains(index) else {
      throw .invalid("disk \(index) is not in 0..<\(disks.count)")
    }
    device_out?.pointee = handle.diskName(index, disks[index].device)
    done_out?.pointee = disks[index].copiedBytes
    total_out?.pointee = disks[index].totalBytes
    return 0
  }
}

// MARK: - Private

/// Where an NBD server listens, from an address as the monitors have it.
private func serverAddress(
  _ pointer: UnsafePointer<CChar>?, _ name: StaticString
) throws(CallFailure) -> NBDAddress {
  switch try endpoint(pointer, name) {
  case .unix(let path): return .unix(path: path)
  case .tcp(let host, let port): return .inet(host: host, port: String(port))
  case .ssh:
    throw .invalid(
      "\(name) is an ssh address: name the socket as the target's host does, unix:/path")
  case .descriptor: throw .invalid("\(name) is a descriptor: an NBD server needs an address")
  }
}
