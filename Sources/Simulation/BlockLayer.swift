import MigrationEngine
import QMP

/// What reaches QEMU's block layer over the network.
public enum BlockInput: Sendable {
}

/// What QEMU's block layer sends over the network.
public enum BlockEffect: Sendable {
}

/// The disks of one QEMU.
struct BlockLayer: Sendable {
  /// Whether it may write to its disks: a target's are inactive until the load.
  var isActive = false

  init(_ disks: [DiskAttachment]) {}
}

extension SimulatedQEMU {
  mutating func network(_ input: BlockInput) {}
  mutating func jobStep(_ number: Int) {}
  mutating func cancelAllJobs() {}

  mutating func drainDisks() { disksDrained(after: configuration.timing.drain) }

  mutating func guestWrites() {
    guard isRunning, let write = guest.beginWrite(&random) else { return }
    storage.write(write.number, to: write.sector, of: configuration.disks[write.disk].disk)
    guest.acknowledge(write)
  }

  mutating func blockCommand(
    _ request: QMPRequest, _ arguments: inout CommandArguments, client: Int?
  ) throws(QMPCommandError) -> JSONValue? {
    throw .notFound(request.name)
  }
}
