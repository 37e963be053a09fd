/// The ramp of the downtime limit: doubled after repeated reports without progress, up to a cap.
///
/// It takes one report a second (`reportInterval` of the engine), so that its pace does not depend on
/// how often somebody asks.
struct Convergence: Sendable {
  /// Reports without progress that are borne before the limit is doubled.
  static let patience = 5
  /// QEMU's own default `downtime-limit`.
  static let defaultLimitMilliseconds: Int64 = 300

  /// In force now; the ramp goes on from here.
  var limitMilliseconds: Int64
  let highestMilliseconds: Int64
  private var lowestRemaining: UInt64 = .max
  private var reportsWithoutProgress = 0

  init(limitMilliseconds: Int64, highestMilliseconds: Int64) {
    self.limitMilliseconds = limitMilliseconds
    self.highestMilliseconds = highestMilliseconds
  }

  /// Takes what is left to send; answers with the new limit when it is to be raised.
  mutating func reported(remainingBytes: UInt64) -> Int64? {
    if remainingBytes < lowestRemaining {
      lowestRemaining = remainingBytes
      reportsWithoutProgress = 0
      return nil
    }
    reportsWithoutProgress += 1
    guard reportsWithoutProgress > Self.patience, limitMilliseconds < highestMilliseconds else {
      return nil
    }
    reportsWithoutProgress = 0
    lowestRemaining = remainingBytes
    limitMilliseconds = min(max(limitMilliseconds, 1) * 2, highestMilliseconds)
    return limitMilliseconds
  }
}
