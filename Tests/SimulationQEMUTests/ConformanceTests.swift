import QEMUHarness
import Simulation
import Testing

/// The simulated QEMU is held to the real one: the same script must leave the same trace, and where
/// it does not, the simulation is wrong.
@Suite("The simulated QEMU behaves as the real one")
struct ConformanceTests {
  /// What the real pair does may depend on how long things take: it must be among what the simulated
  /// one does under so many different delays.
  static let variations: UInt64 = 40

  @Test("QEMU 7.2", arguments: Scripts.all)
  func qemu72(script: Script) throws { try compare(script, .system72, .qemu72) }

  @Test("QEMU 10.0", arguments: Scripts.all)
  func qemu100(script: Script) throws { try compare(script, .backports100, .qemu100) }

  private func compare(
    _ script: Script, _ version: QEMUVersion, _ release: SimulatedRelease
  ) throws {
    let real = try ScriptRun.run(script, against: RealPair(version, script.setup))
    var first: [String] = []
    for variation in UInt64(0)..<Self.variations {
      let simulated = try ScriptRun.run(
        script, against: SimulatedPair(release, script.setup, variation: variation))
      if simulated == real { return }
      if variation == 0 { first = simulated }
    }
    let onlyReal = real.filter { !first.contains($0) }
    let onlySimulated = first.filter { !real.contains($0) }
    Issue.record(
      "only real: \(onlyReal)\nonly simulated: \(onlySimulated)\nreal: \(real)\nsimulated: \(first)"
    )
  }
}
