extension QEMUPair {
  /// The instants of a migration by hand, by QEMU's own clocks in microseconds since 1970.
  public struct Blackout: Sendable {
    public let stopMicroseconds: Int64
    public let resumeMicroseconds: Int64

    public var duration: Duration { .microseconds(resumeMicroseconds - stopMicroseconds) }
  }

  /// Migrates through the harness's monitors, without the library: `cont` goes to the target when
  /// the source says `completed`.
  ///
  /// It returns when the target has resumed. A target started with `-incoming defer` is told to
  /// listen first.
  @discardableResult
  public func migrateByHand() throws -> Blackout {
    for side in Side.allCases { try process(side).monitor.setCapabilities(["events": true]) }
    if target.options.incoming == "defer" {
      try target.monitor.execute("migrate-incoming", ["uri": .string(migrationAddress)])
    }
    let (sourceCount, targetCount) = (source.monitor.events.count, target.monitor.events.count)
    try source.monitor.execute("migrate", ["uri": .string(migrationAddress)])
    try source.monitor.waitForMigration("completed", after: sourceCount)
    try target.monitor.execute("cont")
    let resume = try target.monitor.waitForEvent("RESUME", after: targetCount)
    let stop = try source.monitor.waitForEvent("STOP", after: sourceCount)
    return Blackout(
      stopMicroseconds: stop.timestampMicroseconds,
      resumeMicroseconds: resume.timestampMicroseconds)
  }
}
