"""Values that docs/operations.md states or that mail rests on, where any other would be valid and do harm in silence."""

# Of objects of a kind, or of one of them: where it stands, and what; of a tuple, one.
SAID = {
    "CronJob": {
        # It makes what must not be made again by itself.
        "spec.suspend": True,
        "spec.concurrencyPolicy": "Forbid",
        "spec.jobTemplate.spec.template.spec.restartPolicy": "Never",
    },
    "Deployment": {
        "spec.minReadySeconds": 10,
        "spec.revisionHistoryLimit": 5,
        "spec.strategy.type": "RollingUpdate",
        "spec.strategy.rollingUpdate.maxUnavailable": 0,
        "spec.template.metadata.annotations.prometheus\\.io/scrape": "true",
        "spec.template.metadata.annotations.prometheus\\.io/path": "/metrics",
        "spec.template.metadata.labels.app\\.kubernetes\\.io/name": "staffetta",
        "spec.template.metadata.labels.app\\.kubernetes\\.io/part-of": "staffetta",
    },
    "Deployment frontend": {"spec.template.spec.terminationGracePeriodSeconds": 120},
    "Deployment auth": {"spec.template.spec.terminationGracePeriodSeconds": 45},
    "Deployment delivery": {"spec.template.spec.terminationGracePeriodSeconds": 330},
    "HorizontalPodAutoscaler": {
        "spec.scaleTargetRef.apiVersion": "apps/v1",
        "spec.scaleTargetRef.kind": "Deployment",
        "spec.metrics.0.type": "Resource",
        "spec.metrics.0.resource.name": "cpu",
        "spec.metrics.0.resource.target.type": "Utilization",
        "spec.metrics.0.resource.target.averageUtilization": 70,
        "spec.behavior.scaleDown.stabilizationWindowSeconds": 600,
    },
    "PodMonitor": {"spec.podMetricsEndpoints.0.path": "/metrics"},
    "PodDisruptionBudget": {"spec.maxUnavailable": 1, "spec.unhealthyPodEvictionPolicy": "AlwaysAllow"},
    "Service frontend": {"spec.type": ("LoadBalancer", "NodePort")},
    "ScaledObject": {"spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds": 600},
    # Headless: a client sees each pod.
    "Service auth": {"spec.clusterIP": "None"},
    "Service redis": {"spec.clusterIP": "None", "spec.ports.0.port": 6379},
    "StatefulSet redis": {
        "spec.replicas": 1,
        "spec.serviceName": "redis",
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted": "Retain",
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled": "Retain",
        "spec.template.spec.terminationGracePeriodSeconds": 60,
        "spec.volumeClaimTemplates.0.metadata.name": "data",
        "spec.volumeClaimTemplates.0.spec.accessModes": ["ReadWriteOnce"],
    },
}


def said(manifests):
    for one in manifests.objects:
        kind, name = one["kind"], one["metadata"]["name"]
        for place, wanted in (SAID.get(kind, {}) | SAID.get(f"{kind} {name}", {})).items():
            found = at(one, place)
            if found not in (wanted if isinstance(wanted, tuple) else (wanted,)):
                manifests.say(kind, name, "has", found, "at", place.replace("\\", ""), "and not", wanted)


def at(value, place):
    """What stands at a place, its steps between dots; a dot behind a backslash is part of a step. `None`: nothing."""
    for step in place.replace("\\.", "\0").split("."):
        step = step.replace("\0", ".")
        if isinstance(value, list):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value
