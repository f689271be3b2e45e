package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func leases(ctx context.Context, client *clientv3.Client) error {
	var c checks
	lease, err := client.Grant(ctx, 600)
	if err != nil {
		return err
	}
	c.same("granted", int64(600), lease.TTL)
	for _, key := range []string{"lease/b", "lease/a"} {
		if _, err := client.Put(ctx, own+key, "v", clientv3.WithLease(lease.ID)); err != nil {
			return err
		}
	}
	told, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	var keys []string
	for _, key := range told.Keys {
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	c.same("attached", true, slices.Equal(keys, []string{own + "lease/a", own + "lease/b"}))
	c.same("remaining", true, 0 < told.TTL && told.TTL <= 600)
	all, err := client.Leases(ctx)
	if err != nil {
		return err
	}
	is := func(status clientv3.LeaseStatus) bool { return status.ID == lease.ID }
	c.same("listed", true, slices.ContainsFunc(all.Leases, is))

	kept, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	reply, err := await(ctx, kept)
	if err != nil {
		return err
	}
	c.same("kept", int64(600), reply.TTL)
	if _, err := client.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	left, err := client.Get(ctx, own+"lease/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	c.same("left", int64(0), left.Count)
	_, err = client.KeepAliveOnce(ctx, lease.ID)
	c.same("kept too late", true, errors.Is(err, rpctypes.ErrLeaseNotFound))
	_, err = client.Revoke(ctx, lease.ID)
	c.same("revoked twice", true, errors.Is(err, rpctypes.ErrLeaseNotFound))
	_, err = client.Put(ctx, own+"lease/c", "v", clientv3.WithLease(lease.ID))
	c.same("put too late", true, errors.Is(err, rpctypes.ErrLeaseNotFound))
	gone, err := client.TimeToLive(ctx, lease.ID)
	if err != nil {
		return err
	}
	c.same("gone", int64(-1), gone.TTL)
	return c.err
}

func mutex(ctx context.Context, client *clientv3.Client) error {
	var c checks
	one, err := concurrency.NewSession(client, concurrency.WithTTL(600))
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := concurrency.NewSession(client, concurrency.WithTTL(600))
	if err != nil {
		return err
	}
	first, second := concurrency.NewMutex(one, own+"mutex"), concurrency.NewMutex(two, own+"mutex")
	if err := first.Lock(ctx); err != nil {
		return err
	}
	c.same("key", fmt.Sprintf("%smutex/%x", own, one.Lease()), first.Key())
	c.same("tried", true, errors.Is(second.TryLock(ctx), concurrency.ErrLocked))
	// Who holds the lock may write, who does not may not.
	guarded := func(mutex *concurrency.Mutex) (bool, error) {
		txn, err := client.Txn(ctx).If(mutex.IsOwner()).
			Then(clientv3.OpPut(own+"guarded", "v")).Commit()
		return err == nil && txn.Succeeded, err
	}
	owned, err := guarded(first)
	if err != nil {
		return err
	}
	c.same("owned", true, owned)
	locked := make(chan error, 1)
	go func() { locked <- second.Lock(ctx) }()
	if err := first.Unlock(ctx); err != nil {
		return err
	}
	if failure, err := await(ctx, locked); err != nil || failure != nil {
		return errors.Join(err, failure)
	}
	owned, err = guarded(second)
	if err != nil {
		return err
	}
	c.same("owned by the second", true, owned)
	// A session that ends gives its locks up.
	if err := two.Close(); err != nil {
		return err
	}
	if err := first.TryLock(ctx); err != nil {
		return err
	}
	return errors.Join(c.err, first.Unlock(ctx))
}

// No two in there at the same time, and whoever came first is first.
func contended(ctx context.Context, client *clientv3.Client) error {
	const workers, turns = 8, 10
	var group sync.WaitGroup
	failures := make([]error, workers)
	inside := 0
	for n := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			failures[n] = func() error {
				session, err := concurrency.NewSession(client, concurrency.WithTTL(600))
				if err != nil {
					return err
				}
				defer session.Close()
				mutex := concurrency.NewMutex(session, own+"contended")
				for range turns {
					if err := mutex.Lock(ctx); err != nil {
						return err
					}
					inside++
					if inside != 1 {
						return fmt.Errorf("%d hold the same lock", inside)
					}
					if err := increment(ctx, client); err != nil {
						return err
					}
					inside--
					if err := mutex.Unlock(ctx); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	var c checks
	count, err := client.Get(ctx, own+"count")
	if err != nil {
		return err
	}
	c.same("count", strconv.Itoa(workers*turns), string(count.Kvs[0].Value))
	return c.err
}

// Reads a number and writes the next, which only a lock makes one step.
func increment(ctx context.Context, client *clientv3.Client) error {
	got, err := client.Get(ctx, own+"count")
	if err != nil {
		return err
	}
	count := 0
	if len(got.Kvs) > 0 {
		if count, err = strconv.Atoi(string(got.Kvs[0].Value)); err != nil {
			return err
		}
	}
	_, err = client.Put(ctx, own+"count", strconv.Itoa(count+1))
	return err
}

// A holder that is silent loses its lock, and a session whose lease is gone knows it.
func expired(ctx context.Context, client *clientv3.Client) error {
	silent, err := concurrency.NewSession(client, concurrency.WithTTL(2))
	if err != nil {
		return err
	}
	held := concurrency.NewMutex(silent, own+"silent")
	if err := held.Lock(ctx); err != nil {
		return err
	}
	silent.Orphan()
	// Asked for every two seconds, which is when its session learns that it is gone.
	waiting, err := concurrency.NewSession(client, concurrency.WithTTL(6))
	if err != nil {
		return err
	}
	if err := concurrency.NewMutex(waiting, own+"silent").Lock(ctx); err != nil {
		return err
	}
	var c checks
	gone, err := client.Get(ctx, held.Key())
	if err != nil {
		return err
	}
	c.same("the silent one's key", int64(0), gone.Count)
	if _, err := client.Revoke(ctx, waiting.Lease()); err != nil {
		return err
	}
	_, err = await(ctx, waiting.Done())
	return errors.Join(c.err, err)
}

func elections(ctx context.Context, client *clientv3.Client) error {
	var c checks
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var candidates []*concurrency.Election
	var owners []*concurrency.Session
	for range 3 {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(600))
		if err != nil {
			return err
		}
		defer session.Close()
		owners = append(owners, session)
		candidates = append(candidates, concurrency.NewElection(session, own+"election"))
	}
	_, err := candidates[0].Leader(ctx)
	c.same("no leader", true, errors.Is(err, concurrency.ErrElectionNoLeader))
	seen := concurrency.NewElection(owners[0], own+"election").Observe(ctx)
	next := func() string {
		leader, err := await(ctx, seen)
		if err != nil {
			return err.Error()
		}
		return string(leader.Kvs[0].Value)
	}

	if err := candidates[0].Campaign(ctx, "zero"); err != nil {
		return err
	}
	c.same("leader", "zero", next())
	elected := make(chan string)
	for n, name := range []string{"one", "two"} {
		go func() {
			if err := candidates[n+1].Campaign(ctx, name); err != nil {
				name = err.Error()
			}
			elected <- name
		}()
	}
	if err := candidates[0].Proclaim(ctx, "zero again"); err != nil {
		return err
	}
	c.same("proclaimed", "zero again", next())
	key, revision := candidates[0].Key(), candidates[0].Rev()
	resumed := concurrency.ResumeElection(owners[0], own+"election", key, revision)
	if err := resumed.Proclaim(ctx, "resumed"); err != nil {
		return err
	}
	c.same("resumed", "resumed", next())
	if err := candidates[0].Resign(ctx); err != nil {
		return err
	}
	c.same("after the end", true, resumed.Proclaim(ctx, "late") == concurrency.ErrElectionNotLeader)
	// The one that came first leads; its end, of whatever kind, makes the other lead.
	second, err := await(ctx, elected)
	if err != nil {
		return err
	}
	c.same("seen", second, next())
	if leader, err := candidates[0].Leader(ctx); err != nil {
		return err
	} else {
		c.same("asked", second, string(leader.Kvs[0].Value))
	}
	of := map[string]int{"one": 1, "two": 2}
	if err := owners[of[second]].Close(); err != nil {
		return err
	}
	third, err := await(ctx, elected)
	if err != nil {
		return err
	}
	c.same("the last", true, third != second && of[third] > 0)
	c.same("seen at last", third, next())
	return errors.Join(c.err, candidates[of[third]].Resign(ctx))
}

// Money that moves between accounts, by many at once, is neither made nor lost.
func stm(ctx context.Context, client *clientv3.Client) error {
	const accounts, moves, each = 5, 60, 100
	name := func(n int) string { return fmt.Sprintf("%saccount/%d", own, n) }
	for n := range accounts {
		if _, err := client.Put(ctx, name(n), strconv.Itoa(each)); err != nil {
			return err
		}
	}
	failures := make([]error, moves)
	var group sync.WaitGroup
	for n := range moves {
		group.Add(1)
		go func() {
			defer group.Done()
			from, to := name(n%accounts), name((n*3+1)%accounts)
			levels := []concurrency.Isolation{
				concurrency.SerializableSnapshot, concurrency.Serializable,
			}
			_, failures[n] = concurrency.NewSTM(client, func(stm concurrency.STM) error {
				if from == to {
					return nil
				}
				a, err := strconv.Atoi(stm.Get(from))
				if err != nil {
					return err
				}
				b, err := strconv.Atoi(stm.Get(to))
				if err != nil {
					return err
				}
				stm.Put(from, strconv.Itoa(a-1))
				stm.Put(to, strconv.Itoa(b+1))
				return nil
			}, concurrency.WithIsolation(levels[n%2]), concurrency.WithAbortContext(ctx))
		}()
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	var c checks
	all, err := client.Get(ctx, own+"account/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sum := 0
	for _, kv := range all.Kvs {
		amount, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		sum += amount
	}
	c.same("accounts", accounts, len(all.Kvs))
	c.same("money", accounts*each, sum)
	return c.err
}
