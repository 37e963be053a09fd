import Testing

@testable import Simulation

/// The numbers must be the same everywhere, or a seed would mean nothing.
@Suite("Random source")
struct RandomSourceTests {
  @Test("it is xoshiro256**: the first numbers of the state 1, 2, 3, 4")
  func reference() {
    var source = RandomSource(state: (1, 2, 3, 4))
    let numbers = (0..<5).map { _ in source.next() }
    #expect(
      numbers == [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240, 1_216_172_134_540_287_360])
  }

  @Test func oneSeedGivesOneSequence() {
    var first = RandomSource(seed: 7)
    var second = RandomSource(seed: 7)
    var other = RandomSource(seed: 8)
    let numbers = (0..<100).map { _ in first.next() }
    #expect(numbers == (0..<100).map { _ in second.next() })
    #expect(numbers != (0..<100).map { _ in other.next() })
  }

  @Test func numbersStayInTheirRange() {
    var source = RandomSource(seed: 1)
    for _ in 0..<1000 {
      #expect((-3...4).contains(source.number(in: -3...4)))
      #expect(source.below(10) < 10)
    }
    #expect(source.below(0) == 0)
    #expect(source.number(in: 5...5) == 5)
    #expect(source.pick([Int]()) == nil)
    _ = source.number(in: Int64.min...Int64.max)
  }
}
