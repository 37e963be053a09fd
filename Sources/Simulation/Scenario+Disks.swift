import MigrationEngine
import QMP

// The disks of a scenario: shared by both QEMUs, or local to each and mirrored.

extension Scenario {
  static let storagePath = "/simulated.nbd"
  static let sectorsOfDisk = 8

  /// Disks that both QEMUs reach.
  public mutating func shareDisks(_ count: Int, hasLock: Bool) {
    for number in 0..<count {
      disks.append((sectors: Self.sectorsOfDisk, hasLock: hasLock))
      let attachment = DiskAttachment(node: "disk\(number)", disk: disks.count - 1)
      source.disks.append(attachment)
      target.disks.append(attachment)
    }
  }

  /// Disks of which each side has its own.
  ///
  /// - Parameters:
  ///   - takenOver: the host program has started the mirrors itself.
  ///   - serverRuns: the target's NBD server runs, and exports.
  public mutating func mirrorDisks(
    _ count: Int, takenOver: Bool, serverRuns: Bool, inWriteBlockingMode: Bool = true
  ) {
    guard count > 0 else { return }
    options.storage.address = .unix(path: Self.storagePath)
    if !serverRuns { options.storage.listenAddress = .unix(path: Self.storagePath) }
    if serverRuns {
      before(
        .target, QEMUCommandName.serverStart,
        ["addr": ["type": "unix", "data": ["path": .string(Self.storagePath)]]])
    }
    for number in 0..<count {
      disks.append((sectors: Self.sectorsOfDisk, hasLock: true))
      disks.append((sectors: Self.sectorsOfDisk, hasLock: true))
      let node = "disk\(number)"
      source.disks.append(DiskAttachment(node: node, disk: disks.count - 2))
      target.disks.append(DiskAttachment(node: node, disk: disks.count - 1))
      var disk = DiskOptions(device: node, exportName: node)
      if serverRuns {
        before(
          .target, QEMUCommandName.exportAdd,
          [
            "type": "nbd", "id": .string("export\(number)"), "node-name": .string(node),
            "name": .string(node), "writable": true,
          ])
      } else {
        disk.targetNode = node
      }
      if takenOver {
        disk.mirror = .takenOver(
          jobID: "job\(number)", copiesInWriteBlockingMode: inWriteBlockingMode,
          node: "mirror\(number)")
        before(
          .source, QEMUCommandName.driveMirror,
          [
            "job-id": .string("job\(number)"), "device": .string(node),
            "target": .string("nbd:unix:\(Self.storagePath):exportname=\(node)"), "sync": "full",
            "mode": "existing", "node-name": .string("mirror\(number)"),
            "copy-mode": inWriteBlockingMode ? "write-blocking" : "background",
            "auto-dismiss": false,
          ])
      }
      options.storage.disks.append(disk)
    }
    startsAfter = .milliseconds(3_001)
  }

  private mutating func before(_ side: Side, _ command: String, _ arguments: JSONObject) {
    let after = Span.milliseconds(Int64(ordersBeforeStart.count + 1) * 300)
    ordersBeforeStart.append((side, command, arguments, after))
  }
}
