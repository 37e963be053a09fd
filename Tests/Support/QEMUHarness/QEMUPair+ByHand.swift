/// Steps of a migration by hand, through the harness's monitors and without the library.
extension QEMUPair {
  /// The instants of a migration, by QEMU's own clocks in microseconds since 1970.
  public struct Blackout: Sendable {
    public let stopMicroseconds: Int64
    public let resumeMicroseconds: Int64

    public var duration: Duration { .microseconds(resumeMicroseconds - stopMicroseconds) }
  }

  /// Who lets the target's guest run.
  public enum Grant: Sendable {
    /// `cont` goes to the target when the source says `completed`.
    case contOnCompleted
    /// Nobody: the target was started without `-S` and resumes by itself, without disks.
    case automatic
  }

  /// Migrates and returns when the target has resumed; disks that are not shared go along.
  ///
  /// With disks, mirrors are ended in `pre-switchover`, and the target's NBD server is stopped
  /// before `cont`. The source finds that server at an address that may lead through a relay.
  /// Capabilities and parameters beyond that are the caller's to set before.
  @discardableResult
  public func migrateByHand(
    grant: Grant = .contOnCompleted, nbdServerFoundAt address: Endpoint? = nil
  ) throws -> Blackout {
    try makeTargetListen()
    let disks = mirroredDisks
    if !disks.isEmpty {
      try startNBDServer(at: nbdEndpoint)
      try startMirrors(to: address ?? nbdEndpoint)
      try source.monitor.setCapabilities(["pause-before-switchover": true])
    }

    let (sourceCount, targetCount) = (source.monitor.events.count, target.monitor.events.count)
    try source.monitor.execute("migrate", ["uri": .string(migrationAddress)])
    if !disks.isEmpty {
      try source.monitor.waitForMigration("pre-switchover", after: sourceCount)
      try endMirrors(after: sourceCount)
      try source.monitor.execute("migrate-continue", ["state": "pre-switchover"])
    }
    try source.monitor.waitForMigration("completed", after: sourceCount)
    if !disks.isEmpty { try target.monitor.execute("nbd-server-stop") }
    if grant == .contOnCompleted { try target.monitor.execute("cont") }
    let resume = try target.monitor.waitForEvent("RESUME", after: targetCount)
    let stop = try source.monitor.waitForEvent("STOP", after: sourceCount)
    return Blackout(
      stopMicroseconds: stop.timestampMicroseconds,
      resumeMicroseconds: resume.timestampMicroseconds)
  }

  /// Switches migration events on for both sides and, after `-incoming defer`, opens the target's
  /// socket.
  public func makeTargetListen() throws {
    for side in Side.allCases { try process(side).monitor.setCapabilities(["events": true]) }
    if target.options.incoming == "defer" {
      try target.monitor.execute("migrate-incoming", ["uri": .string(migrationAddress)])
    }
  }

  /// Where the target's NBD server listens after `migrateByHand`.
  public var nbdEndpoint: Endpoint { .unix(directory.file("\(target.name)-nbd.sock")) }

  /// The numbers of the disks that have an image of their own on each side.
  public var mirroredDisks: [Int] {
    let (source, target) = (images[.source] ?? [], images[.target] ?? [])
    return source.indices.filter { source[$0].path != target[$0].path }
  }

  /// Exports the target's disks, writable, under the names of their nodes.
  public func startNBDServer(at endpoint: Endpoint) throws {
    try target.monitor.execute("nbd-server-start", ["addr": endpoint.legacySocketAddress])
    for disk in mirroredDisks {
      let node = JSONValue.string(QEMUProcess.nodeName(disk: disk))
      try target.monitor.execute(
        "block-export-add",
        [
          "type": "nbd", "id": .string("export\(disk)"), "node-name": node, "name": node,
          "writable": true,
        ])
    }
  }

  /// Starts a mirror in write-blocking mode for each disk and waits until all are ready.
  ///
  /// The address is where the source finds the target's NBD server, perhaps behind a relay.
  public func startMirrors(to endpoint: Endpoint) throws {
    let count = source.monitor.events.count
    for disk in mirroredDisks {
      try source.monitor.execute(
        "blockdev-add",
        [
          "driver": "nbd", "node-name": .string("mirror-target\(disk)"),
          "server": endpoint.socketAddress,
          "export": .string(QEMUProcess.nodeName(disk: disk)),
        ])
      try source.monitor.execute(
        "blockdev-mirror",
        [
          "job-id": .string(Self.mirrorName(disk: disk)),
          "device": .string(QEMUProcess.nodeName(disk: disk)),
          "target": .string("mirror-target\(disk)"), "sync": "full",
          "copy-mode": "write-blocking",
        ])
    }
    for disk in mirroredDisks {
      try source.monitor.waitForEvent("BLOCK_JOB_READY", after: count) {
        $0["device"]?.string == Self.mirrorName(disk: disk)
      }
    }
  }

  /// Ends the mirrors in sync, each side keeping its own disk, and removes their nodes.
  public func endMirrors(after count: Int) throws {
    for disk in mirroredDisks {
      try source.monitor.execute(
        "block-job-cancel", ["device": .string(Self.mirrorName(disk: disk)), "force": false])
    }
    for disk in mirroredDisks {
      let end = try source.monitor.waitForEvent("BLOCK_JOB_COMPLETED", after: count) {
        $0["device"]?.string == Self.mirrorName(disk: disk)
      }
      if let error = end.data["error"]?.string {
        throw HarnessError("the mirror of disk \(disk) failed: \(error)")
      }
      try source.monitor.execute(
        "blockdev-del", ["node-name": .string("mirror-target\(disk)")])
    }
  }

  /// The name of the job that mirrors a disk.
  public static func mirrorName(disk: Int) -> String { "mirror\(disk)" }
}
