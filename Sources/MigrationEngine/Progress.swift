/// The figures of a running migration; nil where QEMU has not said.
public struct Progress: Hashable, Sendable {
  public var ramTotalBytes: UInt64?
  public var ramTransferredBytes: UInt64?
  public var ramRemainingBytes: UInt64?
  public var rateBytesPerSecond: UInt64?
  /// QEMU's `dirty-sync-count`.
  public var pass: UInt64?
  public var dirtyBytesPerSecond: UInt64?
  public var downtimeLimitMilliseconds: UInt64?
  /// What is left at the start of this pass over the measured rate: QEMU's own `expected-downtime`
  /// misleads, since the last flush ignores `max-bandwidth`.
  public var predictedBlackoutMicroseconds: UInt64?
  /// QEMU's own `downtime`: without load, grant and anything that a manager does.
  public var qemuDowntimeMilliseconds: UInt64?
  public var totalTimeMilliseconds: UInt64?

  public init() {}

  mutating func take(_ report: MigrationReport) {
    ramTotalBytes = report.ramTotalBytes ?? ramTotalBytes
    ramTransferredBytes = report.ramTransferredBytes ?? ramTransferredBytes
    ramRemainingBytes = report.ramRemainingBytes ?? ramRemainingBytes
    if let rate = report.rateMegabitsPerSecond, rate > 0, rate < 1e12 {
      rateBytesPerSecond = UInt64(rate * 125_000)
    }
    if let dirty = report.dirtyPagesRate {
      let (bytes, overflow) = dirty.multipliedReportingOverflow(by: report.pageSizeBytes ?? 4096)
      dirtyBytesPerSecond = overflow ? nil : bytes
    }
    if let pass = report.pass, pass != self.pass {
      self.pass = pass
      predict()
    }
    qemuDowntimeMilliseconds = report.downtimeMilliseconds ?? qemuDowntimeMilliseconds
    totalTimeMilliseconds = report.totalTimeMilliseconds ?? totalTimeMilliseconds
  }

  private mutating func predict() {
    guard let ramRemainingBytes, let rateBytesPerSecond, rateBytesPerSecond > 0 else { return }
    let seconds = Double(ramRemainingBytes) / Double(rateBytesPerSecond)
    predictedBlackoutMicroseconds = seconds < 1e9 ? UInt64(seconds * 1e6) : nil
  }
}
